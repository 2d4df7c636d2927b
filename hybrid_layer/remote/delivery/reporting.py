# SPDX-License-Identifier: BSD-3-Clause
"""Tells servers what this process has counted, where no renewal does; and asks what all have."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.statistics import ChannelStatistics, warn


async def report_to(context: Context, store: Store, shard: Shard) -> None:
    """Tell a server what was counted since the last report, if anything was. Raises `RemoteUnavailable`."""
    ledger = context.ledgers[shard.number]
    for _ in range(2 if ledger.is_under_way else 1):  # a report that is repeated lacks what was counted since
        report = ledger.report()
        if report is not None:
            await store.counters(shard, report)
            ledger.told(report)


async def counters_of_all(context: Context, store: Store, shard: Shard) -> Mapping[str, int]:
    """All that was reported to a server, and this process's latest numbers.

    Without an answer, what others have reported since the last one is missing. People look at statistics most when a
    server is down.
    """
    ledger = context.ledgers[shard.number]
    report = ledger.report()
    try:
        sums = await store.counters(shard, report)
    except RemoteUnavailable as error:
        warn(("statistics", shard.label), f"Statistics lack what other processes have counted lately: {error}")
    else:
        ledger.told(report)
        ledger.note(sums)
    return ledger.estimate()


async def statistics_of(context: Context, store: Store, channel: str) -> ChannelStatistics:
    """What the channel's server knows of it. Raises `RemoteUnavailable`."""
    shard = context.shard_of(channel)
    await report_to(context, store, shard)
    pending, left, counts = await store.queue_state(shard, channel)
    is_counted = "!" not in channel
    return {
        "messages_count": counts.get("sent", 0) if is_counted else None,
        "messages_pending": pending,
        "messages_max_age": 0.0 if left is None else max(0.0, context.policy.expiry - left),
        "channel_full_count": counts.get("full", 0) if is_counted else None,
    }
