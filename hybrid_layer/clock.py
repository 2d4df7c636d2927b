"""A machine's clock that only grows, whatever a test does to the `time` module, and what is known of the servers'.

freezegun replaces `time.monotonic` wherever it finds that function as an attribute of a module, and a frozen clock
here would drop messages that the C core and the servers, whose clocks go on, still hold. So the real clock is asked
through an object that no such search finds. Every deadline in memory is on this clock; the C core reads the same one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

monotonic: Callable[[], float]
"""Seconds since some moment before this process began. The machine's processes share that moment."""
boottime: Callable[[], float]
"""The same, and it goes on while the machine is suspended, as the servers' clocks do."""

if hasattr(time, "clock_gettime"):
    monotonic = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
else:  # Windows
    monotonic = partial(time.monotonic)
boottime = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else monotonic

_SET_FROM = 0.25
"""Seconds by which two measurements must differ for the server's clock to have been set."""
_DRIFT = 0.0005
"""What two clocks may differ by for each second that they run: as much as NTP slews them."""
STAMPS_FOR = 10.0
"""Seconds for which a measurement is good enough to stamp messages, at most."""
_GOOD_WITHIN = 0.1
"""Seconds that a measurement for that may take: the clock is known no better."""


def seconds(reply: Sequence[bytes]) -> float:
    """What a server's clock shows, of the reply to a TIME command."""
    return int(reply[0]) + int(reply[1]) / 1e6


class ServerClock:
    """A server's clock, as its distance from `boottime`, which each answer with a time measures anew.

    The clock may be set: by NTP, by hand, or since another server takes the place of this one. Then what was stamped
    before is still to be read by the old distance, and what was stamped since by the new one. The old one is kept for
    `keep` seconds, the life of a message, so that neither is taken for expired; `on_set` is called.

    Any thread may use it.
    """

    def __init__(self, keep: float, on_set: Callable[[], None] = lambda: None) -> None:
        self.keep = keep
        self.on_set = on_set
        self._lock = threading.Lock()
        self._distance = math.inf
        """Unknown as yet: then everything has expired, and is measured for."""
        self._low = self._high = math.inf
        """The distance is between these."""
        self._asked = -math.inf
        """When the last measurement that counted was begun."""
        self._old: list[tuple[float, float]] = []
        """Distances from before the clock was set, and until when they count."""
        self._known_since = self._set_at = 0.0
        """By the server's clock: since when it has been seen to go evenly, and when it was last found set, or 0."""
        self._stamps_until = -math.inf
        self._suspended = boottime() - monotonic()
        """Seconds that this machine had been suspended when that was looked at last."""

    def measured(self, shown: float, asked: float) -> None:
        """The server's clock showed `shown` between `asked`, of `boottime`, and now."""
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
                return  # it is known better
            self._asked, self._low, self._high, self._distance = asked, low, high, (low + high) / 2
        if was_set:
            self.on_set()

    def left(self, stamp_ms: int) -> float:
        """Seconds until the clock shows `stamp_ms`. 0 or less: it is over by all that is known.

        Where the clock was set lately, `stamp_ms` may be of before or since. If it is over by one, it is of the other:
        what is older than that can be said to be expired. If it is over by none, it ends at the earliest.
        """
        ahead = stamp_ms / 1000 - boottime()
        if not self._old:
            return ahead - self._distance
        return self._left_by_any(ahead)

    def _left_by_any(self, ahead: float) -> float:
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
        """Who was suspended cannot say what others failed to do meanwhile, and failed to do his own part."""
        suspended = boottime() - monotonic()
        if suspended < self._suspended + _SET_FROM:
            return
        self._suspended = suspended
        if self._distance < math.inf:
            self._known_since = self._set_at = boottime() + self._distance
            self.on_set()

    def may_stamp(self, asked: float) -> None:
        """The server has been asked for time and epoch, at `asked`: for a while `stamp` need not ask again."""
        now = boottime()
        if now - asked <= _GOOD_WITHIN:
            self._stamps_until = now + min(STAMPS_FOR, self.keep)  # as others keep the distance that it is from

    def stamp(self, life_ms: int) -> int | None:
        """What the server's clock shows after another `life_ms`, never too early. None: ask the server."""
        now = boottime()
        return int((now + self._high) * 1000) + life_ms if now < self._stamps_until else None

    def doubt(self) -> None:
        """It may be another server's by now."""
        self._stamps_until = -math.inf
