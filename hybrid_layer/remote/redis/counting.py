# SPDX-License-Identifier: BSD-3-Clause
"""The verbs of Redis and Valkey that take in or tell what was counted."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_layer.clock import boottime, seconds
from hybrid_layer.names import machine_of, non_local
from hybrid_layer.remote.delivery.replies import QueueState, Renewal, Report
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.written import parse_note
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.several import SeveralAtOnce
from hybrid_layer.remote.redis.wire.keys import Keys


class CountingVerbs(SeveralAtOnce):
    """A base of `hybrid_layer.remote.redis.store.RedisStore`."""

    async def counters(self, shard: Shard, report: Report | None) -> Mapping[str, int]:
        keys = self._keys[shard.number]
        places = _places_of(keys, report) or [keys.counts("")]
        found = await self._run(shard, scripts.COUNTERS, places, *_arguments_of(report))
        return {field.decode("ascii", "replace"): int(n) for field, n in zip(found[::2], found[1::2], strict=True)}

    async def queue_state(self, shard: Shard, channel: str) -> QueueState:
        keys, machine = self._keys[shard.number], machine_of(channel)
        inbox = f"@{machine}!" if machine else non_local(channel)
        key = keys.inbox(inbox) if "!" in channel else keys.queue(channel)
        pending, left_ms, *counts = await self._run(shard, scripts.QUEUE_STATE, [key, keys.counts("")], channel)
        counted = {field: int(n) for field, n in zip(("sent", "full"), counts, strict=True) if n}
        return QueueState(pending, None if left_ms < 0 else left_ms / 1000, counted)

    async def renew(self, shard: Shard, addressee: str, life: float, report: Report | None = None) -> Renewal:
        keys = self._keys[shard.number]
        names = [keys.alive(addressee), keys.notes(addressee), keys.epoch, keys.alive(""), *_places_of(keys, report)]
        known = self._known[shard.number].of_clock()
        args = (int(life * 1000), "1" if shard.epoch.first else "0", known, *_arguments_of(report))
        asked = boottime()
        gone, epoch, *rest = await self._run(shard, scripts.RENEW, names, *args)
        shard.clock.measured(seconds(rest[:2]), asked)
        return Renewal(bool(gone), epoch, [parse_note(note) for note in rest[2:]])


def _places_of(keys: Keys, report: Report | None) -> list[str]:
    """The keys that ``include/counts.lua`` needs to take in a report, if there is one."""
    return [] if report is None else [keys.counts(""), keys.counts(report.reporter)]


def _arguments_of(report: Report | None) -> list[str | int]:
    """The arguments that ``include/counts.lua`` adds up."""
    if report is None:
        return []
    return [report.number, *(part for field, n in report.counts.items() for part in (field, n))]
