"""What arrives over a connection: in any pieces, with hiredis or without it, for a coroutine or for a function."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import BusyLoadingError, ConnectionError, InvalidResponse, ResponseError

from hybrid_layer.remote.redis.server.incoming import Incoming
from hybrid_layer.remote.redis.server.parsing import MISSING, PythonReader, Reader
from tests.support.waiting import cancelled, turns, wait_until

REPLIES = st.recursive(
    st.none() | st.binary(max_size=20) | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def written(reply: Any) -> bytes:
    """`reply` as a server sends it."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    return b"*%d\r\n%s" % (len(reply), b"".join(map(written, reply)))


def parser(kind: Any) -> Any:
    return kind(protocolError=InvalidResponse, replyError=ResponseError, notEnoughData=MISSING)


def parsed(reader: Any, data: bytes, size: int) -> list[Any]:
    """What `reader` finds in `data`, which arrives `size` bytes at a time."""
    found = []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        while (reply := reader.gets()) is not MISSING:
            found.append(reply)
    return found


@given(st.lists(REPLIES, max_size=4), st.integers(1, 40))
def test_any_replies_in_any_pieces(replies: list[Any], size: int) -> None:
    data = b"".join(map(written, replies))
    assert parsed(parser(PythonReader), data, size) == replies
    assert parsed(parser(Reader), data, size) == replies


@pytest.mark.parametrize("kind", [Reader, PythonReader])
def test_refusals_and_words(kind: Any) -> None:
    ok, refusal, none, inner = parsed(parser(kind), b"+OK\r\n-ERR no\r\n*-1\r\n*1\r\n-ERR in\r\n", 3)
    assert (ok, none) == (b"OK", None)
    assert [type(error) for error in (refusal, inner[0])] == [ResponseError] * 2
    assert (str(refusal), str(inner[0])) == ("ERR no", "ERR in")


@pytest.mark.parametrize("kind", [Reader, PythonReader])
@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b":one\r\n", b"$ten\r\n", b"*\r\n"])
def test_other_protocols(kind: Any, data: bytes) -> None:
    with pytest.raises(InvalidResponse):
        parsed(parser(kind), data, len(data))


class Opened:
    """As redis-py's connection, after its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._parser = self

    def parse_error(self, text: str) -> Exception:
        return BusyLoadingError(text) if text.startswith("LOADING") else ResponseError(text)


@contextlib.asynccontextmanager
async def connected(early: bytes = b"") -> AsyncIterator[tuple[Incoming, socket.socket]]:
    """What arrives from the other end, which is yielded too; `early` arrives before anybody looks."""
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    try:
        with far:
            if early:
                far.sendall(early)
                await turns(5)
            yield Incoming(Opened(reader, writer)), far
    finally:
        writer.close()


async def test_a_cancellation_loses_no_reply() -> None:
    async with connected() as (incoming, far):
        task = asyncio.create_task(incoming.read_response())
        far.sendall(b"$5\r\nfi")
        await turns(5)
        await cancelled(task)
        far.sendall(b"rst\r\n+second\r\n")
        assert [await incoming.read_response() for _ in range(2)] == [b"first", b"second"]


async def test_what_arrived_before() -> None:
    async with connected(b"+early\r\n") as (incoming, _):
        assert await incoming.read_response() == b"early"


async def test_a_server_that_hung_up_before() -> None:
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    far.close()
    await wait_until(reader.at_eof, "the end is noticed")
    with pytest.raises(ConnectionError):
        await Incoming(Opened(reader, writer)).read_response()
    writer.close()


async def test_a_function_gets_replies_until_it_has_enough() -> None:
    async with connected() as (incoming, far):
        taken: list[Any] = []

        def take(reply: Any) -> bool:
            taken.append(reply)
            return len(taken) < 3

        far.sendall(b":1\r\n:2\r\n:3\r\n:4\r\n")
        await incoming.give_to(take)
        assert taken == [1, 2, 3]
        assert await incoming.read_response() == 4


async def test_a_function_goes_on_after_a_refusal_to_serve() -> None:
    async with connected() as (incoming, far):
        taken: list[Any] = []

        def take(reply: Any) -> bool:
            taken.append(reply)
            return reply != 2

        task = asyncio.create_task(incoming.give_to(take))
        await turns()
        far.sendall(b":1\r\n-LOADING data\r\n:2\r\n")
        with pytest.raises(BusyLoadingError):
            await task
        await incoming.give_to(take)
        assert taken == [1, 2]


async def test_what_a_function_raises_ends_the_giving_only() -> None:
    async with connected() as (incoming, far):
        task = asyncio.create_task(incoming.give_to(lambda reply: bool(1 / reply)))
        await turns()
        far.sendall(b":0\r\n:1\r\n")
        with pytest.raises(ZeroDivisionError):
            await task
        assert await incoming.read_response() == 1


@pytest.mark.parametrize("ending", ["eof", "reset", "disconnect"])
async def test_a_lost_connection_ends_what_waits(ending: str) -> None:
    async with connected() as (incoming, far):
        task = asyncio.create_task(incoming.read_response())
        await turns()
        if ending == "disconnect":
            incoming.on_disconnect()
        elif ending == "eof":
            far.shutdown(socket.SHUT_WR)
        else:
            far.close()
        for coroutine in (task, incoming.read_response(), incoming.give_to(lambda reply: True)):
            with pytest.raises((ConnectionError, OSError)):
                await coroutine


async def test_replies_before_the_end_are_read() -> None:
    async with connected() as (incoming, far):
        far.sendall(b"+last\r\n")
        far.close()
        await turns(5)
        assert await incoming.read_response() == b"last"
        with pytest.raises(ConnectionError):
            await incoming.read_response()


async def test_a_server_has_to_keep_what_nobody_reads() -> None:
    async with connected() as (incoming, far):
        far.setblocking(False)
        reply, sent = written(b"x" * 10_000), 0
        with contextlib.suppress(BlockingIOError):
            while sent < 1000:
                far.sendall(reply)
                sent += 1
                await turns(2)
        assert sent < 1000
        assert [len(await incoming.read_response()) for _ in range(sent)] == [10_000] * sent


async def test_a_reply_larger_than_what_may_wait() -> None:
    async with connected() as (incoming, far):
        large = b"x" * 3_000_000
        reading = asyncio.create_task(incoming.read_response())
        await asyncio.to_thread(far.sendall, written(large))
        assert await reading == large
