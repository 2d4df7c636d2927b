"""How long one waits for a process that holds a lock: until it does not go on, whatever the clock says."""

from __future__ import annotations

from collections.abc import Hashable

from hybrid_layer.clock import monotonic
from hybrid_layer.ipc import _core

LOCK_REFUSED = (_core.Busy, _core.Damaged, _core.Retired, OSError)
"""What the core raises for want of the segment's lock. That of the portable core is a record lock, and the system may
grant none."""
PAUSE = 0.05
"""Seconds between two tries."""
_LIMIT = 1.8
"""Seconds without any change after which a holder is held to be stopped: with the tries themselves, less than two."""


class Contended(Exception):
    """A lock was not had at this try. Internal: whoever has patience tries again."""

    def __init__(self, what: str, holder: Hashable, pid: int | None, *, is_queue: bool = False) -> None:
        super().__init__(what)
        self.holder = holder
        """Who holds it, and since when. The same as before only if that one has not gone on."""
        self.is_queue = is_queue
        """Whether the holder may be waiting for another lock itself, and then is not to blame."""
        self.what = what
        """What is locked, for the error."""
        self.pid = pid
        """The holder's process, if known; 0 for one of another pid namespace."""


class Patience:
    """Of one caller, for all its tries."""

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()
        self._waited = 0.0
        self._last = monotonic()

    def is_over(self, holder: Hashable) -> bool:
        """Whether nobody who was not seen before has held the lock for long. Called after each try that failed."""
        now = monotonic()
        # A caller that was stopped itself, or whose event loop was busy, has not waited all that time.
        self._waited += min(now - self._last, 2 * PAUSE)
        self._last = now
        if holder not in self._seen:
            self._seen.add(holder)
            self._waited = 0.0
        return self._waited >= _LIMIT
