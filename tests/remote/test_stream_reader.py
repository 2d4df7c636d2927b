"""The reader of a machine's stream: what it makes of odd entries and answers, late ones, and servers that end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.replies import StreamItem
from hybrid_layer.remote.delivery.store import StreamReader
from hybrid_layer.remote.redis.hosts.cluster import hash_tags
from hybrid_layer.remote.redis.wire.stream import read_answer, read_position, written_position
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.transport import Position
from tests.remote.malformed import DIGITS, entries, notes
from tests.remote.stores import CHANNEL, START, M, Opened, redis_store, view
from tests.remote.test_odd_replies import GARBAGE, REPLIES, few
from tests.remote.tools import recovered
from tests.support.clusters import cluster_of, slot_of
from tests.support.loops import run
from tests.support.odd_server import OddServer, usual
from tests.support.servers import NewServer, Server
from tests.support.waiting import any_moment, turns, wait_until

KEY = f"inbox|@{M}!"
LAST = Position(2**64 - 1, 2**64 - 1)


@contextlib.asynccontextmanager
async def reading(hosts: Sequence[Any], prefix: str, **options: Any) -> AsyncIterator[tuple[Opened, StreamReader]]:
    """A store and a reader of the machine's stream, connected, on the only shard."""
    async with redis_store(hosts, prefix, **options) as opened:
        reader = opened.store.stream(opened.shards[0], M)
        try:
            assert await reader.connect()
            yield opened, reader
        finally:
            await reader.close()


async def known(opened: Opened) -> None:
    """Make the machine known."""
    await opened.store.renew_machine(opened.shards[0], M, 60, view(inboxes=1000), 1)


# What is read


def test_ids() -> None:
    for position in (START, Position(1, 0), Position(1_700_000_000_000, 7), LAST):
        assert read_position(written_position(position).encode()) == position
    for text in (None, 5, b"", b"-", b"1", b"1-", b"-1", b"1-x", b"+1-1", b"1-1-1", b"\xd9\xa1-1", b"9" * 5000 + b"-1"):
        assert read_position(text) is None, text
    assert read_position(b"18446744073709551616-0") is None


@given(REPLIES)
def test_answers_of_any_shape_are_read_or_refused(reply: Any) -> None:
    for answer in (reply, [reply], [[b"key", reply]], [[b"key", [reply]]], [[b"key", [[b"1-1", reply]]]]):
        found = read_answer(answer, b"key", M)
        assert found is None or all(isinstance(item, StreamItem) for item in found)


@given(st.lists(st.binary(max_size=300), max_size=4) | st.none())
def test_entries_of_any_shape_have_a_place(fields: Any) -> None:
    (item,) = read_answer([[b"key", [[b"5-1", fields]]]], b"key", M) or ()
    assert item.id == Position(5, 1)


async def test_what_cannot_be_read_is_an_item_with_nothing(server: Server, prefix: str) -> None:
    async with reading([server.url], prefix) as (opened, reader):
        await known(opened)
        shard = opened.shards[0]
        await opened.store.register(shard, "g", M, 60, 0)
        key, epoch = f"{prefix}|1|{KEY}", server.command("GET", f"{prefix}|1|epoch|")
        stamp = b"%d" % int((time.time() + 5) * 1000)
        head = b"|".join([b"1", stamp, epoch])
        bad = entries(epoch, CHANNEL.encode(), stamp) + entries(epoch, b"=g,5", stamp)
        others = ["specific.OTHER!1", "normal", "", "!", "@!!", f"@{M}!", f"@{M}!jobs", f"{CHANNEL},2", CHANNEL.lower()]
        groups = ["=", "=,", "=g", "=g,", "=,5", "=g,5,5", "=ü,5", "=a b,5", "=g!,5", f"={'x' * 100},5"]
        bad += [b"%s|%s|p" % (head, name.encode()) for name in (*others, *groups)]
        bad += [b"%s|=g,%s|p" % (head, digits) for digits in DIGITS]
        bad += [note for note in notes(epoch, CHANNEL.encode(), stamp) if not note.startswith(b"f|" + epoch)]
        bad += [b"-|g|%s" % name.encode() for name in (*others, "ü")] + [b"-||%s" % CHANNEL.encode(), b"?|1", b"x"]
        for fields in [(b"e", text) for text in bad] + [(b"e", b"x", b"f", b"y")]:
            server.command("XADD", key, "*", *fields)
        await opened.store.send(shard, CHANNEL, b"good", 100)
        items: list[StreamItem] = []
        while not items or items[-1].entry is None:
            items += await reader.read(items[-1].id if items else START, 100)
        assert len(items) == len(bad) + 2
        read = [item for item in items[:-1] if item != StreamItem(item.id)]
        # Epochs that only who knows the present one finds absurd.
        epochs = [found.epoch for item in read if (found := item.note or item.entry)]
        assert len(epochs) == len(read)
        assert all(each.endswith(b":" + b"9" * 15) or not each.startswith(epoch[:-1]) for each in epochs)
        assert items[-1].entry is not None
        assert items[-1].entry.payload == b"good"


# When there is nothing


async def test_a_read_ends_with_the_block_time(server: Server, prefix: str) -> None:
    async with reading([server.url], prefix, block_time=0.2) as (_, reader):
        began = time.monotonic()
        assert list(await reader.read(START, 10)) == []
        assert 0.19 < time.monotonic() - began < 2
        assert list(await reader.read(LAST, 10)) == []
        assert not await reader.connect()


async def test_a_message_ends_the_wait(server: Server, prefix: str) -> None:
    async with reading([server.url], prefix, block_time=30) as (opened, reader):
        await known(opened)
        task = asyncio.create_task(reader.read(START, 10))
        await wait_until(lambda: server.command("INFO", "clients")["blocked_clients"] > 0, "it waits")
        await opened.store.send(opened.shards[0], CHANNEL, b"x", 10)
        (item,) = await asyncio.wait_for(task, 5)
        assert item.entry is not None


async def test_without_a_connection_nothing_is_read(server: Server, prefix: str) -> None:
    """A new connection may lead to another server, which only `connect` tells."""
    async with reading([server.url], prefix) as (_, reader):
        await reader.close()
        with pytest.raises(ReadingLost):
            await reader.read(START, 10)
        assert await reader.connect()


async def test_abandoned_reads_lose_nothing(server: Server, prefix: str) -> None:
    dice = random.Random(1)
    async with reading([server.url], prefix, capacity=1000) as (opened, reader):
        await known(opened)

        async def write() -> None:
            for n in range(500):
                await opened.store.send(opened.shards[0], CHANNEL, b"%d" % n, 1000)

        writing = asyncio.create_task(write())
        got: list[bytes] = []
        position, abandoned = START, 0
        while len(got) < 500:
            await reader.connect()
            task = asyncio.create_task(reader.read(position, 16))
            await turns(dice.randrange(6))
            if dice.random() < 0.5:
                await any_moment(0.002, dice)
            if dice.random() < 0.5:
                task.cancel()
            try:
                for item in await task:
                    assert item.entry is not None
                    got.append(item.entry.payload)
                    position = item.id
            except asyncio.CancelledError:
                abandoned += await reader.connect()  # a new connection, unless the read had not begun
        await writing
        assert got == [b"%d" % n for n in range(500)]
        assert abandoned


# When it goes wrong


async def test_a_server_that_ends_and_begins_again(new_server: NewServer, prefix: str) -> None:
    server = new_server()
    async with reading([server.url], prefix, block_time=30, timeout=1) as (opened, reader):
        await known(opened)
        task = asyncio.create_task(reader.read(START, 10))
        await wait_until(lambda: server.command("INFO", "clients")["blocked_clients"] > 0, "it waits")
        server.kill()
        with pytest.raises(ReadingLost):
            await task
        with pytest.raises(ReadingLost):
            await reader.connect()
        server.restart()
        assert await reader.connect()
        await known(opened)
        await opened.store.send(opened.shards[0], CHANNEL, b"x", 10)
        assert len(await reader.read(START, 10)) == 1


async def test_a_server_that_becomes_a_replica(new_server: NewServer, prefix: str) -> None:
    server, other = new_server(), new_server()
    async with reading([server.url], prefix, block_time=30) as (_, reader):
        task = asyncio.create_task(reader.read(START, 10))
        await wait_until(lambda: server.command("INFO", "clients")["blocked_clients"] > 0, "it waits")
        server.command("REPLICAOF", other.host, other.port)
        with pytest.raises(ReadingLost, match="UNBLOCKED"):
            await task


async def test_a_server_that_hangs(new_server: NewServer, prefix: str) -> None:
    server = new_server()
    async with reading([server.url], prefix, block_time=0.2, timeout=1) as (_, reader):
        server.pause()
        began = time.monotonic()
        with pytest.raises(ReadingLost, match=r"no answer within 2\.2 s"):
            await reader.read(START, 10)
        assert 2.1 < time.monotonic() - began < 4
        server.resume()
        assert await reader.connect()
        assert list(await reader.read(START, 10)) == []


async def test_a_live_server_that_answers_late_is_not_lost(prefix: str) -> None:
    """Its clock was set back: then it ends a wait later by as much."""
    never = asyncio.Event()

    async def answer(command: Sequence[bytes]) -> Any:
        return await never.wait() if command[0] == b"XREAD" else usual(command)

    with OddServer(answer) as odd:
        async with reading([odd.url], prefix, block_time=0.1, timeout=1) as (_, reader):
            assert list(await reader.read(START, 10)) == []
            assert await reader.connect(), "it may be another server nevertheless"


async def test_a_strangers_value_at_the_key(server: Server, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    key = f"{prefix}|1|{KEY}"
    server.command("RPUSH", key, "x")
    async with reading([server.url], prefix, block_time=0.1) as (opened, reader):
        for _ in range(3):
            with pytest.raises(ReadingLost, match="WRONGTYPE"):
                await reader.read(START, 10)
            await reader.pause(ReadingLost("WRONGTYPE"))
            assert await reader.connect(), "whoever saw the loss sees the end of it"
        (text,) = [text for text in caplog.messages if key in text]
        assert "holds a list, not a stream of hybrid_layer. Nothing can be received from it until it is removed" in text
        server.command("DEL", key)
        await known(opened)
        await opened.store.send(opened.shards[0], CHANNEL, b"x", 10)
        assert len(await reader.read(START, 10)) == 1


@pytest.mark.parametrize("name", ["XREAD", "TYPE", "TIME", "INFO"])
@pytest.mark.parametrize("reply", [bytearray(b"$100\r\nx"), Exception("ERR odd"), [[b"key", []]], 5])
def test_odd_answers(name: str, reply: Any) -> None:
    """Each is a loss, or no entries, within the time of an answer. Then reading goes on."""
    odd_answers(name, [reply])


@few
@given(st.lists(REPLIES | GARBAGE, min_size=1, max_size=2))
def test_answers_to_reads_of_any_shape(replies: list[Any]) -> None:
    odd_answers("XREAD", replies)


def odd_answers(name: str, replies: list[Any]) -> None:
    left = list(replies)
    good = [b"e", b"1|1|1-1:0|%s|good" % CHANNEL.encode()]

    def answer(command: Sequence[bytes]) -> Any:
        if left and command[0].decode() == name:
            return left.pop()
        if command[0] == b"XREAD":
            return Exception("WRONGTYPE odd") if left and name == "TYPE" else [[command[6], [[b"7-1", good]]]]
        return usual(command)

    async def main() -> None:
        async with redis_store([odd.url], "asgi", block_time=0.1, timeout=0.3) as opened:
            reader = opened.store.stream(opened.shards[0], M)
            payload = b""
            async with asyncio.timeout(10):
                while payload != b"good":
                    try:
                        await reader.connect()
                        items = await reader.read(START, 10)
                        payload = items[-1].entry.payload if items and items[-1].entry else b""
                    except ReadingLost as error:
                        await reader.pause(error)
            await reader.close()

    with OddServer(answer) as odd:
        run(main())


async def test_a_slot_that_moves(servers: list[Server], prefix: str) -> None:
    (tag,) = hash_tags(1)
    slot = slot_of(tag)
    with cluster_of(servers[0].kind) as cluster:
        host = cluster.host(virtual_shards=1)
        async with reading([host], prefix, block_time=0.2, timeout=1) as (opened, reader):
            store, (shard,) = opened.store, opened.shards
            await known(opened)
            registration = await store.register(shard, "g", M, 60, 0)
            await store.send(shard, CHANNEL, b"before", 10)
            target = next(node for node in cluster.primaries if node is not cluster.owner(slot))
            source = cluster.begin_move(slot, target)
            source.command("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", f"{prefix}|1|{{{tag}}}|{KEY}")
            for call in (
                store.send(shard, CHANNEL, b"lost", 10),
                store.group_send(shard, "g", b"lost"),
                store.group_add(shard, "h", CHANNEL, 60, "MACHINEAAA-PROCESSAAA"),
                store.renew_machine(shard, M, 60, view(), 5),
                store.trim(shard, M, LAST),
            ):
                with pytest.raises(RemoteUnavailable, match="the slot of its keys is moving to another node"):
                    await call
            while cluster.move_keys(slot, source, target):
                pass
            cluster.end_move(slot, source, target)
            renewal = await recovered(lambda: store.renew_machine(shard, M, 60, view(inboxes=1000), 5))
            assert (await store.group_send(shard, "g", b"after"))[:3] == (1, 0, 0)
            items: list[StreamItem] = []

            async def are_read() -> bool:
                try:
                    await reader.connect()
                    items[:] = await reader.read(START, 10)
                except ReadingLost as error:
                    await reader.pause(error)
                return len(items) == 2

            await wait_until(are_read, "the entries are read from the other node")
            assert items[0].id == renewal.last
            assert items[1].t == registration.t
