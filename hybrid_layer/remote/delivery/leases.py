# SPDX-License-Identifier: BSD-3-Clause
"""Which process of the machine reads the machine's stream on which shard.

A lease saves connections, and nothing else depends on it: shared memory takes in each entry once and in order, however
many processes read. So it needs no lock, and is taken over by observation: by a process that has seen the same lease at
several looks in a row, each in time. A look that comes late proves nothing, as the whole machine may have been paused.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.machine_reader import MachineReader
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.statistics import warn
from hybrid_layer.timers import sleep
from hybrid_layer.transport import Machine

_RENEW = 0.1
"""Seconds between two renewals of a lease."""
_LOOK = 0.2
"""Seconds between two looks at the leases of others."""
_SELDOM = 1.0
"""Seconds between two looks whether the machine has any groups, if that is all for which its streams are read."""
_LATE = 0.4
"""Seconds after which a look is late."""
_LOOKS = 3
"""Looks at an unchanged lease before it is taken over."""
_REST = 1.0
"""Seconds for which a process leaves a server that it cannot reach to others: another container may reach it."""


class Leases(ResidentTask):
    """The leases of one process and layer, and the readers that run while it holds them.

    Also looks for outages, which the readers note in shared memory.
    """

    _what = "the leases of the machine's streams"

    def __init__(self, context: Context, machine: Machine, readers: Sequence[MachineReader], outages: Outages) -> None:
        super().__init__(context.statistics.count)
        self._context = context
        self._machine = machine
        self._readers = readers
        self._outages = outages
        number = len(readers)
        self._held = [0] * number
        """The leases that this process holds, as it left them; 0 for those of others."""
        self._seen = [0] * number
        self._unchanged = [0] * number
        """At how many looks in a row a lease was as `_seen`."""
        self._rests_until = [0.0] * number
        self._looked = monotonic()
        self._outages_seen: Sequence[int] | None = None
        self.reads_always = False
        """The servers know this process's channels as the machine's. Else, it reads only while the machine has
        groups."""

    async def _run(self) -> None:
        try:
            while True:
                try:
                    pause = self._renew_and_look()
                except (HybridLayerError, OSError) as error:
                    warn("machine", f"The local half of the layer does not work: {error}")
                    pause = _SELDOM
                await sleep(pause)
        finally:
            self._give_all_back()

    def _renew_and_look(self) -> float:
        """Renew, and look if that is due. Returns the seconds until this is to be done again."""
        self._renew()
        if not (self.reads_always or self._machine.has_groups()):
            self._give_all_back()
            return _SELDOM
        now = monotonic()
        if now - self._looked >= _LOOK:
            self._look(now)
            self._look_at_outages()
        return _RENEW if any(self._held) else _LOOK

    def _renew(self) -> None:
        for number, held in enumerate(self._held):
            if held:
                reader = self._readers[number]
                if reader.has_failed:
                    self._rests_until[number] = monotonic() + _REST
                    self._machine.drop_lease(number, held)
                    self._end(number)
                elif not (renewed := self._machine.take_lease(number, held)):
                    self._end(number)  # another process has taken over
                else:
                    self._held[number] = renewed

    def _look(self, now: float) -> None:
        is_late = now - self._looked >= _LATE
        self._looked = now
        for number, lease in enumerate(self._machine.leases(len(self._held))):
            if self._held[number] or now < self._rests_until[number]:
                continue
            if lease == self._seen[number] and not is_late:
                self._unchanged[number] += 1
            else:
                self._seen[number], self._unchanged[number] = lease, 1
            if lease == 0 or self._unchanged[number] >= _LOOKS:
                self._held[number] = self._machine.take_lease(number, lease)
                if self._held[number]:
                    self._readers[number].begin()

    def _look_at_outages(self) -> None:
        found = self._machine.outages(len(self._held))
        if self._outages_seen is None:  # an outage that has begun before is one for this process, too
            self._outages_seen = [number - number % 2 for number in found]
        for shard, before, now in zip(self._context.shards, self._outages_seen, found, strict=True):
            if now != before:
                self._outages.lost(shard)
                if now % 2 == 0:
                    self._outages.back(shard)
        self._outages_seen = found

    def _end(self, number: int) -> None:
        self._held[number] = self._unchanged[number] = 0
        self._readers[number].end()

    def _give_all_back(self) -> None:
        for number, held in enumerate(self._held):
            if held:
                self._machine.drop_lease(number, held)
                self._end(number)
