"""What processes report to have counted is added up once, whatever becomes of the replies and the connections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.replies import Report
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.redis.wire.keys import Keys
from tests.remote.stores import Open, redis_store
from tests.support.memory_store import MemoryChannelLayer
from tests.support.servers import Server


async def test_a_report_counts_once(open_store: Open) -> None:
    """Also one that was on its way in another connection while it was repeated, and the next one came."""
    async with open_store() as one:
        store, shard = one.store, one.home("jobs")
        first, second = Report("A", 1, {"sent": 2, "sent|jobs": 2}), Report("A", 2, {"sent": 5, "full|jobs": 1})
        for report in (first, first, second, first, second):
            await store.counters(shard, report)
        await store.renew(shard, "PROCESS", 30, first)
        await store.counters(shard, Report("B", 1, {"sent": 10}))
        assert await store.counters(shard, None) == {"sent": 17, "sent|jobs": 2, "full|jobs": 1}
        assert (await store.queue_state(shard, "jobs")).counts == {"sent": 2, "full": 1}


@pytest.mark.any_server
async def test_a_report_is_known_as_long_as_its_counts(prefix: str, server: Server) -> None:
    """A process without a connection repeats it when it has one again."""
    keys = Keys(prefix)
    async with redis_store([server.url], prefix) as one:
        await one.store.counters(one.shards[0], Report("A", 1, {"sent": 1}))
    left = [server.command("PTTL", keys.counts(name)) for name in ("", "A")]
    assert min(left) > 86_400_000


async def test_what_is_counted_while_a_reply_is_lost(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the numbers while the server is away, and once it is back, without a further call."""
    layer = MemoryChannelLayer(prefix=prefix)
    await layer.send("jobs", {"n": 1})
    (store,) = layer.stores

    async def lose_the_reply(shard: Shard, report: Report | None) -> None:
        await counters(shard, report)
        raise RemoteUnavailable("its reply is lost")

    counters = store.counters
    for n, ask in enumerate([layer.statistics, lambda: layer.channel_statistics("jobs")]):
        monkeypatch.setattr(store, "counters", lose_the_reply)
        assert (await layer.statistics())["sent"] == 2 * n + 1
        await layer.send("jobs", {"n": 2})
        assert (await layer.statistics())["sent"] == 2 * n + 2
        monkeypatch.undo()
        found = await ask()
        assert found.get("sent", found.get("messages_count")) == 2 * n + 2
        await layer.send("jobs", {"n": 3})
    await layer.close()


async def test_a_report_under_way_counts_once(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a heartbeat, for example: the server has added it when it answers, and this process does not know yet."""
    layer = MemoryChannelLayer(prefix=prefix)
    await layer.statistics()
    (store,) = layer.stores
    counters = store.counters
    is_asked, goes_on = asyncio.Event(), asyncio.Event()

    async def in_time(shard: Shard, report: Report | None) -> Mapping[str, int]:
        if report is None:
            is_asked.set()
            await goes_on.wait()
            return await counters(shard, None)
        await counters(shard, report)
        raise RemoteUnavailable("its reply is late")

    monkeypatch.setattr(store, "counters", in_time)
    asking = asyncio.create_task(layer.statistics())
    await is_asked.wait()
    await layer.send("jobs", {"n": 1})
    assert (await layer.statistics())["sent"] == 1
    goes_on.set()
    assert (await asking)["sent"] == 1
    assert (await layer.statistics())["sent"] == 1
    monkeypatch.undo()
    await layer.close()
