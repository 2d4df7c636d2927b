# SPDX-License-Identifier: BSD-3-Clause
"""Tells a lock that is busy from one whose holder is stalled: how long to wait depends on progress, not on time."""

from __future__ import annotations

from collections.abc import Hashable

from hybrid_layer.clock import monotonic
from hybrid_layer.ipc import _core

LOCK_REFUSED = (_core.Busy, _core.Damaged, _core.Retired, OSError)
"""What the core raises when it cannot acquire the segment's lock. The portable core's lock is a record lock, which the
system may refuse."""
PAUSE = 0.05
"""Seconds between two tries."""
_LIMIT = 1.8
"""Seconds without progress after which a holder counts as stalled. With the tries themselves, less than two."""


class Contended(Exception):
    """A try to acquire a lock failed. Internal: the caller tries again."""

    def __init__(self, what: str, holder: Hashable, pid: int | None, *, is_queue: bool = False) -> None:
        super().__init__(what)
        self.holder = holder
        """Identifies the holder and its progress: equal to an earlier value only if the holder made none since."""
        self.is_queue = is_queue
        """Whether the holder may itself be waiting for another lock, so that the stalled process is another one."""
        self.what = what
        """The lock, as the subject of an error text."""
        self.pid = pid
        """The holder's process id, if known; 0 for a process of another pid namespace."""


class StallDetector:
    """Follows the holders of one lock through all tries of one caller."""

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()
        self._waited = 0.0
        self._last = monotonic()

    def is_stalled(self, holder: Hashable) -> bool:
        """True once no new holder, and no progress, has been seen for `_LIMIT` seconds. Call it after each failed try.

        `holder` is `Contended.holder`.
        """
        now = monotonic()
        # A caller that was stopped itself, or whose event loop was busy, did not wait all that time.
        self._waited += min(now - self._last, 2 * PAUSE)
        self._last = now
        if holder not in self._seen:
            self._seen.add(holder)
            self._waited = 0.0
        return self._waited >= _LIMIT
