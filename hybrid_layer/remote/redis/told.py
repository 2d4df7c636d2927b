"""What a process tells the scripts of one shard: what it knows of the clock, and of the epoch's life."""

from __future__ import annotations

import math

from hybrid_layer.clock import boottime
from hybrid_layer.remote.delivery.shard import Shard

_PROLONG_AFTER = 5 * 3600.0
"""Seconds after which scripts look at the epoch's life again: ``scripts/include/epoch.lua`` relies on six hours."""


class Told:
    """Of one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._prolonged_until = -math.inf
        """Until when no script need look at the life of the epoch's key for this process."""
        self._doubts = 0
        """Those of the shard when that was learnt."""

    def of_clock(self) -> str:
        """What is known of the clock, as ``scripts/include/clock.lua`` needs it."""
        known = self._shard.clock.judgement()
        return "" if known is None else "{:.0f}|{:.0f}|{:.0f}".format(*known)

    def for_scripts(self) -> str:
        """The same, with a "|" at the end if a script need not look at the life of the epoch."""
        told = self.of_clock()
        is_prolonged = boottime() < self._prolonged_until and self._doubts == self._shard.doubts
        return f"{told}|" if told and is_prolonged else told

    def ran(self, told: str, asked: float) -> None:
        """A script that prolongs the epoch ran through. It was given `told`, at `asked` of `boottime`."""
        if not told.endswith("|"):
            self._prolonged_until = asked + _PROLONG_AFTER
            self._doubts = self._shard.doubts
