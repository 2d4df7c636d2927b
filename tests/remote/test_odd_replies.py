"""Replies of any shape: an error of the layer that names the server, or one more try of a reader. Reading continues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_layer.clock import ServerClock, boottime
from hybrid_layer.exceptions import ChannelFull, HybridLayerError
from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from hybrid_layer.remote.delivery.epoch import Epoch, read_epoch
from hybrid_layer.remote.delivery.written import parse_note
from hybrid_layer.remote.redis.wire.entries import parse
from tests.support.loops import run
from tests.support.odd_server import EPOCH, OddServer, script_of, usual

pytestmark = pytest.mark.any_server

DIGITS = st.integers().map(str) | st.integers(1, 6000).map(lambda n: "9" * n) | st.floats().map(str) | st.text()
BYTES = st.binary(max_size=20) | DIGITS.map(lambda text: text.encode("utf-8", "surrogatepass"))
FIELDS = BYTES | st.sampled_from([b"1", b"+", b"-", b"f", EPOCH, b"1-1:" + b"9" * 5000, b"a!b", b"1700000000000"])
LINES = st.lists(FIELDS, max_size=6).map(b"|".join)
REPLIES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | LINES | st.just(Exception("ERR odd")),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,
)
GARBAGE = st.sampled_from([b":x\r\n", b"$x\r\n", b"*x\r\n", b"?\r\n", b"\x00\xff\r\n", b"*1\r\n" * 3000]).map(bytearray)

few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServer]:
    with OddServer() as server:
        yield server


@given(LINES)
def test_lines_of_any_shape_are_read_or_refused(line: bytes) -> None:
    entry = parse(line)
    if entry is not None:
        clock, epoch = ServerClock(60), Epoch(set(), lambda incarnation, flushes: None)
        clock.measured(1_700_000_000, boottime())
        assert isinstance(clock.left(entry.stamp_ms), float)
        epoch.admits(entry.epoch)
        assert all(name.isascii() for name in entry.names)
    note = parse_note(line)
    if note is not None:
        assert note.group.isascii()
        assert note.member.isascii()
    known = read_epoch(line)
    assert known is None or known[1] < 10**15
    for learn in (Epoch(set()).announced, Epoch(set()).admits, Epoch(set()).meet, Epoch(set()).flushed):
        learn(line)


CALLS: dict[str, Callable[[Any], Any]] = {
    "send": lambda layer: layer.send("normal", {}),
    "group_add": lambda layer: layer.group_add("g", "normal"),
    "group_discard": lambda layer: layer.group_discard("g", "normal"),
    "group_send": lambda layer: layer.group_send("g", {}),
    "group_publish": lambda layer: layer.group_send("g", {}),
    "flush": lambda layer: layer.flush(),
    "SCAN": lambda layer: layer.flush(),
    "renew": lambda layer: layer.new_channel(),
    "publish": lambda layer: layer.send("specific.OTHER!1", {}),
    "PUBLISH": lambda layer: layer.send("specific.OTHER!1", {}),
}


@few
@given(st.sampled_from(sorted(CALLS)), REPLIES | GARBAGE)
def test_calls(odd: OddServer, name: str, reply: Any) -> None:
    def answer(command: Sequence[bytes]) -> Any:
        return reply if name in (script_of(command), command[0].decode()) else usual(command)

    odd.answer = answer
    layer_class = RedisPubSubChannelLayer if "ublish" in name.lower() else RedisChannelLayer
    layer = layer_class(hosts=[odd.url], timeout=0.5)

    async def main() -> None:
        (outcome,) = await asyncio.gather(CALLS[name](layer), return_exceptions=True)
        if isinstance(outcome, Exception) and not isinstance(outcome, ChannelFull):
            assert isinstance(outcome, HybridLayerError), repr(outcome)
            assert str(odd.port) in str(outcome)
        odd.answer = usual
        await layer.send("normal", {})
        await layer.close()

    run(main())


READER_ASKS = ["BLPOP", "BLMPOP", "TIME", "renew", "TYPE"]


@few
@given(st.sampled_from(READER_ASKS), st.lists(REPLIES | GARBAGE, min_size=1, max_size=3))
@pytest.mark.parametrize("kind", ["normal", "specific"])
def test_readers(odd: OddServer, kind: str, name: str, replies: list[Any]) -> None:
    """The server gives each of them once, then behaves normally."""
    receive_after(odd, kind, name, replies)


@pytest.mark.parametrize("name", [*READER_ASKS, "INFO", "SCRIPT"])
@pytest.mark.parametrize("kind", ["normal", "specific"])
def test_readers_of_an_answer_that_stops_halfway(odd: OddServer, kind: str, name: str) -> None:
    receive_after(odd, kind, name, [bytearray(b"$100\r\nx")])


def receive_after(odd: OddServer, kind: str, name: str, replies: list[Any]) -> None:
    """Receive from a server that first gives such replies to the command or script `name`."""
    left = list(replies)
    stamp = int((time.time() + 60) * 1000)
    local = b""

    async def answer(command: Sequence[bytes]) -> Any:
        if left and name in (script_of(command), command[0].decode()):
            return left.pop()
        if command[0] not in (b"BLPOP", b"BLMPOP"):
            return usual(command)
        if name == "TYPE" and left:
            return Exception("WRONGTYPE odd")
        if name == "TIME" and left:
            return None
        await asyncio.sleep(0.005)  # a server that answers at once would leave the loop no time
        keys = [key for key in command if b"|queue|" in key or b"|inbox|" in key]
        value = b"1|%d|%s|%s%s|\x81\xa1n\x01" % (stamp, EPOCH, keys[0].rpartition(b"|")[2], local)
        return [keys[0], value if command[0] == b"BLPOP" else [value]]

    odd.answer = usual
    layer = RedisChannelLayer(hosts=[odd.url], timeout=0.5, block_time=0.1, expiry=1)

    async def main() -> None:
        channel = await layer.new_channel() if kind == "specific" else "normal"
        nonlocal local
        local = channel.partition("!")[2].encode()
        odd.answer = answer
        async with asyncio.timeout(5):
            assert await layer.receive(channel) == {"n": 1}
        odd.answer = usual
        await layer.close()

    run(main())
