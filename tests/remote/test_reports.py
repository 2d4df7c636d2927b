"""What processes report to have counted is added up once, whatever becomes of the replies and the connections."""

from __future__ import annotations

import pytest

from hybrid_layer.remote.delivery.replies import Report
from hybrid_layer.remote.redis.wire.keys import Keys
from tests.remote.stores import redis_store
from tests.remote.test_machine_verbs import Open, open_store  # noqa: F401  # a fixture
from tests.support.servers import Server


async def test_a_report_counts_once(open_store: Open) -> None:  # noqa: F811
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
