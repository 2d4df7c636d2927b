"""What a store does for a machine: registrations, renewals, its stream. The store in memory has to do the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.replies import Outcome, StreamItem
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.transport import Position, View
from tests.remote.stores import CHANNEL, OTHER, START, M, Open, Opened, redis_store, view
from tests.remote.test_credentials import LEAST
from tests.remote.test_odd_replies import GARBAGE, REPLIES, few
from tests.remote.tools import told as log_of
from tests.support.loops import run
from tests.support.odd_server import OddServer, script_of, usual
from tests.support.servers import NewServer


async def renewed(opened: Opened, shard: Shard, machine: str = M, **fields: Any) -> View:
    """What a machine knows after a renewal."""
    seen = view(**{"machine": machine, **fields})
    renewal = await opened.store.renew_machine(shard, machine, 60, seen, seen.registration + 1)
    return seen._replace(run=renewal.run, registration=renewal.registration, position=renewal.last)


async def read(opened: Opened, shard: Shard, after: Position = START, machine: str = M) -> Sequence[StreamItem]:
    """What waits for a machine."""
    reader = opened.store.stream(shard, machine)
    assert await reader.connect()
    assert not await reader.connect()
    try:
        return await reader.read(after, 1000)
    finally:
        await reader.close()


def told(items: Sequence[StreamItem]) -> list[Any]:
    """What the items say, without what differs each time."""
    found: list[Any] = []
    for item in items:
        if item.note is not None:
            found.append((item.note.kind, item.note.group, item.note.member))
        elif item.entry is not None:
            found.append((item.group or item.entry.names[0], item.entry.payload))
        else:
            found.append(None)
    return found


@pytest.mark.parametrize("mode", ["queue", "pubsub"])
async def test_messages_of_all_kinds_come_in_order(open_store: Open, mode: str) -> None:
    """Also where processes are subscribed to theirs."""
    async with open_store() as one, open_store(mode=mode) as other:
        shard = one.home("g")
        await renewed(one, shard)
        registration = await one.store.register(shard, "g", M, 60, 0)
        assert 55 < registration.life <= 60.1
        assert registration.epoch == shard.epoch.snapshot[0]
        theirs = other.shards[shard.number]
        assert (await other.store.send(theirs, CHANNEL, b"1", 10)).outcome is Outcome.STORED
        assert (await other.store.group_send(theirs, "g", b"2"))[:3] == (1, 0, 0)
        assert await other.store.group_add(theirs, "h", CHANNEL, 30, "MACHINEAAA-PROCESSAAA")
        assert (await other.store.group_send(theirs, "h", b"3"))[:3] == (1, 0, 0)
        await other.store.group_discard(theirs, "h", CHANNEL, "MACHINEAAA-PROCESSAAA")
        items = await read(one, shard)
        assert told(items) == [(CHANNEL, b"1"), ("g", b"2"), ("+", "h", CHANNEL), ("h", b"3"), ("-", "h", CHANNEL)]
        assert [item.id for item in items] == sorted(item.id for item in items)
        direct, to_group, added, to_other, _ = items
        assert direct.entry is not None
        assert to_group.entry is not None
        assert added.note is not None
        assert (to_group.t, list(to_group.entry.names)) == (registration.t, [])
        assert direct.entry.epoch == to_group.entry.epoch == added.note.epoch == registration.epoch
        assert 55 < shard.clock.left(direct.entry.stamp_ms) <= 60.1
        assert 25 < shard.clock.left(added.note.stamp_ms) <= 30.1
        assert 55 < shard.clock.left(to_other.t) <= 60.1, "twice the life of the membership"


async def test_reading_by_position(open_store: Open) -> None:
    async with open_store(block_time=0.05) as opened:
        shard = opened.home(CHANNEL)
        await renewed(opened, shard)
        for n in range(10):
            await opened.store.send(shard, CHANNEL, b"%d" % n, 10)
        reader = opened.store.stream(shard, M)
        await reader.connect()
        first = await reader.read(START, 4)
        assert told(first) == [(CHANNEL, b"%d" % n) for n in range(4)]
        assert told(await reader.read(first[1].id, 4)) == [(CHANNEL, b"%d" % n) for n in range(2, 6)]
        await opened.store.trim(shard, M, first[2].id)
        rest = await reader.read(START, 100)
        assert told(rest) == [(CHANNEL, b"%d" % n) for n in range(2, 10)]
        assert list(await reader.read(rest[-1].id, 100)) == []
        await reader.close()
        assert await reader.connect()
        await reader.close()


async def test_a_renewal_tells_what_the_server_knows(open_store: Open) -> None:
    async with open_store(block_time=0.1) as opened:
        shard = opened.shards[0]
        first = await renewed(opened, shard, registration=2**63)
        assert first.registration == 2**63 + 1
        assert first.position is not None
        assert await read(opened, shard) == await read(opened, shard, first.position) == []
        assert first.run > 0
        renewal = await opened.store.renew_machine(shard, M, 60, first, 5)
        assert (renewal.registration, renewal.run) == (first.registration, first.run)
        assert renewal.epoch.endswith(b":0")
        for wrong in (first._replace(run=first.run ^ 1), first._replace(registration=7)):
            renewal = await opened.store.renew_machine(shard, M, 60, wrong, 2**64 - 1)
            assert renewal.registration == 2**64 - 1
        await opened.store.send(shard, CHANNEL, b"x", 10)
        (item,) = await read(opened, shard)
        assert first.position < item.id
        assert (await opened.store.renew_machine(shard, M, 60, first, 5)).last >= item.id
        await opened.store.trim(shard, M, Position(item.id.ms + 1, 0))
        last = (await opened.store.renew_machine(shard, M, 60, first, 5)).last
        assert last >= item.id
        await opened.store.send(shard, CHANNEL, b"x", 10)
        (item,) = await read(opened, shard)
        assert item.id > last


async def test_registrations(open_store: Open) -> None:
    async with open_store() as opened:
        store, shard = opened.store, opened.home("g")
        await renewed(opened, shard)
        first = await store.register(shard, "g", M, 60, 0)
        second = await store.register(shard, "g", M, 1, first.t)
        assert second.t > first.t
        third = await store.register(shard, "g", M, 1, second.t + 1_000_000)
        assert third.t == second.t + 1_000_001
        assert 1000 < third.life <= 1060.1
        await store.forget(shard, "g", M, second.t)
        assert (await store.group_send(shard, "g", b"1"))[:3] == (1, 0, 0)
        await store.forget(shard, "g", M, third.t)
        assert (await store.group_send(shard, "g", b"2"))[:3] == (0, 0, 0)


@pytest.mark.parametrize("mode", ["queue", "pubsub"])
async def test_who_gets_a_groups_message(open_store: Open, mode: str) -> None:
    async with open_store(mode=mode) as opened:
        store, shard = opened.store, opened.home("g")
        for machine in (M, OTHER):
            await renewed(opened, shard, machine)
            await store.register(shard, "g", machine, 60, 0)
        assert (await store.group_send(shard, "g", b"1"))[:3] == (2, 0, 0)
        assert (await store.group_send(shard, "g", b"2", skip=OTHER))[:3] == (1, 0, 0)
        assert told(await read(opened, shard)) == [("g", b"1"), ("g", b"2")]
        assert told(await read(opened, shard, machine=OTHER)) == [("g", b"1")]


async def test_the_capacity_is_for_each_inbox(open_store: Open) -> None:
    async with open_store(capacity=2) as opened:
        store, shard = opened.store, opened.home(CHANNEL)
        await renewed(opened, shard, inboxes=3)
        results = [(await store.send(shard, CHANNEL, b"x", 2)).outcome for _ in range(2 * 3 + 64 + 1)]
        assert results == [Outcome.STORED] * 70 + [Outcome.FULL]
        await opened.store.register(shard, "g", M, 60, 0)
        assert (await store.group_send(shard, "g", b"x"))[:3] == (0, 1, 0)


async def test_a_capacity_of_its_own(open_store: Open) -> None:
    async with open_store(capacity=2, channel_capacity={"specific.*": 3}) as opened:
        shard = opened.home("g")
        await renewed(opened, shard)
        await opened.store.register(shard, "g", M, 60, 0)
        results = [(await opened.store.group_send(shard, "g", b"x"))[:2] for _ in range(2 + 64 + 1)]
        assert results == [(1, 0)] * 66 + [(0, 1)]


async def test_what_is_for_an_unknown_machine_is_not_stored(open_store: Open) -> None:
    async with open_store() as opened:
        store, shard = opened.store, opened.home(CHANNEL)
        await store.renew(shard, "PROCESSAAA", 60)
        assert (await store.send(shard, CHANNEL, b"x", 10)).outcome is Outcome.DEAD
        assert not await store.group_add(shard, "g", CHANNEL, 60, "MACHINEAAA-PROCESSAAA")
        await store.group_discard(shard, "g", CHANNEL, "MACHINEAAA-PROCESSAAA")
        assert (await store.group_send(shard, "g", b"x"))[:3] == (0, 0, 0)


@pytest.mark.parametrize("mode", ["queue", "pubsub"])
async def test_a_flush(open_store: Open, mode: str) -> None:
    async with open_store(mode=mode) as opened:
        store, shard = opened.store, opened.home("g")
        known = await renewed(opened, shard)
        await store.register(shard, "g", M, 60, 0)
        for n in range(3):
            await store.group_send(shard, "g", b"%d" % n)
        before = await read(opened, shard)
        await store.flush(shard)
        (note,) = await read(opened, shard)
        assert note.id > before[-1].id, "also if the clock was set back"
        assert note.note is not None
        assert (note.note.kind, note.note.epoch) == ("f", shard.epoch.snapshot[0])
        assert (await store.group_send(shard, "g", b"x"))[:3] == (0, 0, 0)
        renewal = await store.renew_machine(shard, M, 60, known, 5)
        assert renewal.registration == known.registration, "the machine is still known"
        assert renewal.epoch == note.note.epoch


CALLS: dict[str, Callable[[Opened, Shard], Any]] = {
    "renew_machine": lambda opened, shard: opened.store.renew_machine(shard, M, 60, view(), 5),
    "register": lambda opened, shard: opened.store.register(shard, "g", M, 60, 0),
    "forget": lambda opened, shard: opened.store.forget(shard, "g", M, 5),
    "machine_add": lambda opened, shard: opened.store.group_add(shard, "g", CHANNEL, 60),
    "machine_note": lambda opened, shard: opened.store.group_discard(shard, "g", CHANNEL),
    "empty_streams": lambda opened, shard: opened.store.flush(shard),
    "XTRIM": lambda opened, shard: opened.store.trim(shard, M, START),
}


@few
@given(st.sampled_from(sorted(CALLS)), REPLIES | GARBAGE)
def test_odd_answers(name: str, reply: Any) -> None:
    def answer(command: Sequence[bytes]) -> Any:
        if name in (script_of(command), command[0].decode()):
            return reply
        return [b"0", [f"asgi|1|inbox|@{M}!".encode()]] if command[0] == b"SCAN" else usual(command)

    async def main() -> None:
        async with redis_store([odd.url], "asgi", timeout=0.5) as opened:
            (outcome,) = await asyncio.gather(CALLS[name](opened, opened.shards[0]), return_exceptions=True)
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, RemoteUnavailable), repr(outcome)
                assert str(odd.port) in str(outcome)

    with OddServer(answer) as odd:
        run(main())


async def test_the_least_rights(new_server: NewServer, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    server = new_server()
    rights = LEAST.format(password="secret", prefix=prefix).split()
    for user, more in (("least", []), ("informed", ["+info"])):
        server.command("ACL", "SETUSER", user, *rights, *more)
    server.command("ACL", "SETUSER", "default", "off")
    for user in ("least", "informed"):
        async with redis_store([f"redis://{user}:secret@{server.host}:{server.port}"], prefix) as opened:
            store, shard = opened.store, opened.shards[0]
            known = await renewed(opened, shard)
            assert (known.run > 0) == (user == "informed")
            assert (await store.renew_machine(shard, M, 60, known, 5)).registration == known.registration
            await store.register(shard, "g", M, 60, 0)
            await store.group_send(shard, "g", b"x")
            await store.send(shard, CHANNEL, b"x", 10)
            last = (await read(opened, shard))[-1].id
            await store.trim(shard, M, last)
            await store.flush(shard)
            assert [item.note.kind for item in await read(opened, shard) if item.note] == ["f"]
            await store.trim(shard, M, Position(last.ms + 1_000_000, 0))
    assert not log_of(caplog, server)
