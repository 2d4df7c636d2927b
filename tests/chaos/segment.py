"""The segment at the end of a round: sound, empty, and no litter of the dead."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from asgiref.sync import async_to_sync

from hybrid_layer.ipc import IPCChannelLayer, _core
from tests.ipc.tools import doorbells
from tests.support.probe import probe
from tests.support.waiting import block_until

REAPED_WITHIN = 2.0
SWEPT_WITHIN = 10.0
"""One housekeeping sweeps only part of the segment for what has expired."""
_TOTALS = ("channels", "messages", "waiters", "groups", "pairs", "members", "blocks", "free blocks")
_MUST_BE_ZERO = ("slow", "memory", "damaged", "undecodable", "errors")


class SegmentView:
    """The segment as the process that runs the rounds sees it, which takes part only in between."""

    def __init__(self, layer: IPCChannelLayer, prefix: str, others: set[int]) -> None:
        self._layer = layer
        self._prefix = prefix
        self._others = others
        self.core: _core.Segment = probe(layer).core

    @property
    def rebuilds(self) -> int:
        return self.core.rebuilds

    def complaints(self) -> list[str]:
        """With all workers of the round gone."""
        found = self._within(REAPED_WITHIN, self._litter)
        found += self._within(SWEPT_WITHIN, self._in_use)
        counters = async_to_sync(self._layer.statistics)()
        found += [f"the counter of {key} is {counters[key]}" for key in _MUST_BE_ZERO if counters[key]]
        return found

    def _within(self, seconds: float, left: Callable[[], list[str]]) -> list[str]:
        """What is still there then, although housekeeping is done all the time."""

        def is_tidy() -> bool:
            if left():
                async_to_sync(self._housekeep)()
            return not left()

        with contextlib.suppress(AssertionError):
            block_until(is_tidy, "all is tidy", seconds)
        return [f"after {seconds} s there are still {what}" for what in left()]

    def _in_use(self) -> list[str]:
        try:
            error, totals = self.core.check()
        except _core.Busy:
            return ["a lock that cannot be acquired"]
        used = dict(zip(_TOTALS, totals, strict=False))
        used["blocks in use"] = used.pop("blocks") - used.pop("free blocks")
        unsound = [f"a broken invariant: {error}"] if error else []
        return unsound + [f"{number} {what}" for what, number in used.items() if number]

    async def _housekeep(self) -> None:
        await self._layer.send("look", {})
        await self._layer.receive("look")

    def _litter(self) -> list[str]:
        here = {self.core.slot}
        slots = [slot for slot, _, pid, _ in self.core.processes() if slot not in here and pid not in self._others]
        litter = [f"slots {slots}"] if slots else []
        bells = doorbells(self._prefix)
        return [*litter, f"doorbells {bells}"] if bells else litter
