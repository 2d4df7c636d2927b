# SPDX-License-Identifier: BSD-3-Clause
"""The machine's monotonic clock, which no test can freeze, and estimates of the servers' clocks.

freezegun replaces `time.monotonic` wherever that function is an attribute of a module. A frozen clock here would drop
messages that the C core and the servers, whose clocks keep running, still hold. So the real clock is called through an
object that freezegun does not find. All deadlines in memory, including those of the C core, are on this clock.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

monotonic: Callable[[], float]
"""Seconds since a moment before this process began, which is the same for all processes of the machine."""
boottime: Callable[[], float]
"""The same, but it keeps running while the machine is suspended, as the servers' clocks do."""

if hasattr(time, "clock_gettime"):
    monotonic = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
else:  # Windows
    monotonic = partial(time.monotonic)
boottime = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else monotonic

_SET_FROM = 0.25
"""Seconds. If two measurements differ by more, the server's clock was set."""
_DRIFT = 0.0005
"""Seconds by which two clocks may drift apart per second: NTP slews them by as much."""
STAMPS_FOR = 10.0
"""Seconds after which a measurement is too old to stamp messages."""
_GOOD_WITHIN = 0.1
"""Seconds. A measurement that took longer is too inexact to stamp messages."""


def seconds(reply: Sequence[bytes]) -> float:
    """The time on a server's clock, in seconds, from the reply to a TIME command."""
    return int(reply[0]) + int(reply[1]) / 1e6


class ServerClock:
    """A server's clock, as its distance from `boottime`. Each reply with a time measures the distance again.

    The clock may be set: by NTP, by hand, or because another server takes the place of this one. Then stamps from
    before have the old distance, later ones the new distance. The old distance is kept for `keep` seconds, the life of
    a message, so that messages of either kind are not mistaken for expired. `on_set` is called.

    Any thread may use it.
    """

    def __init__(self, keep: float, on_set: Callable[[], None] = lambda: None) -> None:
        self.keep = keep
        self.on_set = on_set
        self._lock = threading.Lock()
        self._distance = math.inf
        """Infinite while unknown: then everything counts as expired, and the clock has to be measured."""
        self._low = self._high = math.inf
        """Bounds of the distance."""
        self._asked = -math.inf
        """When the last measurement that was used began."""
        self._old: list[tuple[float, float]] = []
        """Distances from before the clock was set, each with the time until which it counts."""
        self._known_since = self._set_at = 0.0
        """On the server's clock: since when it is known to run evenly, and when it was last found set, or 0."""
        self._stamps_until = -math.inf
        self._suspended = boottime() - monotonic()
        """Seconds for which this machine had been suspended, at the last check."""

    def measured(self, shown: float, asked: float) -> None:
        """Note that the server's clock showed `shown` seconds at some time between `asked`, on `boottime`, and now."""
        self._look_at_suspension()
        now = boottime()
        low, high = shown - now, shown - asked
        was_set = False
        with self._lock:
            if asked < self._asked:  # older than what is known
                return
            slack = _DRIFT * (now - self._asked)
            if self._distance == math.inf:
                self._known_since = shown
            elif low > self._high + slack + _SET_FROM or high < self._low - slack - _SET_FROM:
                was_set = True
                self._old = [*self._still(now), (self._distance, now + self.keep)]
                self._known_since = self._set_at = shown
            elif high - low > self._high - self._low + slack:
                return  # the last one is more exact
            self._asked, self._low, self._high, self._distance = asked, low, high, (low + high) / 2
        if was_set:
            self.on_set()

    def left(self, stamp_ms: int) -> float:
        """Seconds until the server's clock shows `stamp_ms`. 0 or less: expired by every distance that is known.

        If the clock was set lately, the stamp may be from before or after that. If it has expired by one distance, the
        other one counts. If it has expired by none, the earliest end counts.
        """
        ahead = stamp_ms / 1000 - boottime()
        if not self._old:
            return ahead - self._distance
        with self._lock:
            self._old = self._still(boottime())
            lefts = [ahead - self._distance, *(ahead - distance for distance, _ in self._old)]
        return min((left for left in lefts if left > 0), default=max(lefts))

    def _still(self, now: float) -> list[tuple[float, float]]:
        return [(distance, until) for distance, until in self._old if until > now]

    def judgement(self) -> tuple[float, float, float] | None:
        """By the server's clock, in ms: since when it is known to go evenly, when it was last found set or 0, and what
        it shows. None: nothing is known.
        """
        if self._distance == math.inf:
            return None
        self._look_at_suspension()
        shows = boottime() + self._distance
        return self._known_since * 1000, self._set_at * 1000, shows * 1000

    def _look_at_suspension(self) -> None:
        """After a suspension this process cannot say what others did not do meanwhile, nor did it do its own part."""
        suspended = boottime() - monotonic()
        if suspended < self._suspended + _SET_FROM:
            return
        self._suspended = suspended
        if self._distance < math.inf:
            self._known_since = self._set_at = boottime() + self._distance
            self.on_set()

    def may_stamp(self, asked: float) -> None:
        """Note that the server was asked for time and epoch, at `asked` on `boottime`: `stamp` works for a while."""
        now = boottime()
        if now - asked <= _GOOD_WITHIN:
            self._stamps_until = now + min(STAMPS_FOR, self.keep)  # no longer than others keep the distance

    def stamp(self, life_ms: int) -> int | None:
        """The time on the server's clock in `life_ms`, in milliseconds, never too early. None: ask the server first."""
        now = boottime()
        return int((now + self._high) * 1000) + life_ms if now < self._stamps_until else None

    def doubt(self) -> None:
        """Stamp no more before the next measurement: it may be another server's clock by now."""
        self._stamps_until = -math.inf
