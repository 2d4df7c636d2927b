# SPDX-License-Identifier: BSD-3-Clause
"""What a process tells the scripts of one server: its knowledge of the clock and of the epoch key's life."""

from __future__ import annotations

import math

from hybrid_layer.clock import boottime
from hybrid_layer.remote.delivery.shards import Shard

_PROLONG_AFTER = 5 * 3600.0
"""Seconds after which a script prolongs the epoch's key again: ``scripts/include/epoch.lua`` relies on six hours."""


class Knowledge:
    """That of one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._prolonged = -math.inf
        """When the last script that prolonged the epoch's key was sent, on `boottime`."""

    def of_clock(self) -> str:
        """The knowledge of the clock, in the format of ``scripts/include/clock.lua``."""
        known = self._shard.clock.judgement()
        return "" if known is None else "{:.0f}|{:.0f}|{:.0f}".format(*known)

    def for_scripts(self) -> str:
        """The same, with a "|" at the end if a script need not prolong the epoch's key."""
        known = self.of_clock()
        is_prolonged = self._shard.doubted < self._prolonged > boottime() - _PROLONG_AFTER
        return f"{known}|" if known and is_prolonged else known

    def ran(self, known: str, asked: float) -> None:
        """Note that a script which prolongs the epoch's key succeeded. It got `known` at `asked`, on `boottime`."""
        if not known.endswith("|"):
            self._prolonged = asked
