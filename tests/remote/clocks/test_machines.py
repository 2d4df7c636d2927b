"""A machine on a server whose clock is set."""

from __future__ import annotations

import asyncio

import pytest

from hybrid_layer.remote.delivery.replies import Outcome
from tests.remote.stores import CHANNEL, START, M, redis_store, view
from tests.support.clocks import Clocks
from tests.support.servers import Server
from tests.support.waiting import wait_until


async def set_clock(server: Server, clocks: Clocks, seconds: float) -> None:
    """Set the server's clock, and wait until scripts see that: Valkey remembers the time for a moment."""

    def shown() -> int:
        return int(server.command("EVAL", "return redis.call('TIME')[1]", 0))

    before = shown()
    clocks.step(seconds)
    if abs(seconds) > 5:
        await wait_until(lambda: abs(shown() - before) > abs(seconds) / 2, "scripts see the new time")


@pytest.mark.parametrize("step", [-7200.0, -1.0, 2.0, 300.0])
async def test_ids_and_registrations_rise(server: Server, clocks: Clocks, prefix: str, step: float) -> None:
    async with redis_store([server.url], prefix) as opened:
        store, (shard,) = opened.store, opened.shards
        await store.renew_machine(shard, M, 60, view(), 1)
        reader = store.stream(shard, M)
        await reader.connect()
        first = await store.register(shard, "g", M, 60, 0)
        await store.send(shard, CHANNEL, b"before", 10)
        (before,) = await reader.read(START, 10)
        await store.flush(shard)
        await set_clock(server, clocks, step)
        second = await store.register(shard, "g", M, 3600, first.t)
        assert second.t > first.t
        assert second.life > 55
        third = await store.register(shard, "g", M, 3600, first.t)
        assert third.t > second.t
        assert (await store.send(shard, CHANNEL, b"after", 10)).outcome is Outcome.STORED
        flushed, after = await reader.read(before.id, 10)
        assert before.id < flushed.id < after.id
        await store.trim(shard, M, after.id)
        await store.forget(shard, "g", M, second.t)
        assert (await store.group_send(shard, "g", b"x"))[:3] == (1, 0, 0)
        await reader.close()


@pytest.mark.parametrize(
    ("step", "is_known"), [(-7200.0, False), (-0.2, True), (0.2, True), (20.0, True), (300.0, False)]
)
async def test_a_renewal_after_the_clock_was_set(
    server: Server, clocks: Clocks, prefix: str, step: float, is_known: bool
) -> None:
    """Where it would have counted as dead meanwhile, the machine may have been removed from its groups."""
    async with redis_store([server.url], prefix) as opened:
        store, (shard,) = opened.store, opened.shards
        first = await store.renew_machine(shard, M, 60, view(), 1)
        known = view(run=first.run, registration=first.registration)
        await set_clock(server, clocks, step)
        assert (await store.send(shard, CHANNEL, b"x", 10)).outcome is not Outcome.FULL
        assert ((await store.renew_machine(shard, M, 60, known, 2)).registration == 1) == is_known


async def test_a_read_under_way_when_the_clock_is_set_back(server: Server, clocks: Clocks, prefix: str) -> None:
    """The server ends it later by as much, but that is no outage."""
    async with redis_store([server.url], prefix, block_time=0.3) as opened:
        store, (shard,) = opened.store, opened.shards
        reader = store.stream(shard, M)
        await reader.connect()
        reads = [asyncio.create_task(reader.read(START, 10))]
        await wait_until(lambda: server.command("INFO", "clients")["blocked_clients"] > 0, "it waits")
        clocks.step(-300)
        async with asyncio.timeout(5):
            assert list(await reads[0]) == []
            await reader.connect()
            assert list(await reader.read(START, 10)) == []
        await reader.close()
