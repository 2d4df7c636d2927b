# SPDX-License-Identifier: BSD-3-Clause
"""What a process logs and counts when shared memory was damaged or removed, and when it retires a segment."""

from __future__ import annotations

from collections import deque

from hybrid_layer.clock import monotonic
from hybrid_layer.ipc import _core
from hybrid_layer.statistics import KEYS, warn

_DAMAGED = KEYS.index("damaged")
_MOST = 5
_WITHIN = 60.0
"""Seconds. A segment that this process has repaired `_MOST` times within them is retired."""

_WHY = {
    "unlinked": "something removed it, such as systemd's RemoveIPC or a cleaned /dev/shm",
    "retired": "another process has found it removed or damaged",
    "damaged": "something has overwritten its header",
    "repairs": "it is damaged again and again; something keeps writing to it",
    "truncated": "something has truncated it; a process that touches it before it notices dies with SIGBUS",
}
"""Reasons to retire a segment and move to another one, in words."""


class Damage:
    """Damage to the segment of `prefix`, as one process knows of it."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._met: deque[float] = deque(maxlen=_MOST)
        self._seen = 0
        self._uncounted = 0
        """Unread messages of a retired segment, to be counted in the next one."""

    def attached(self, core: _core.Segment) -> None:
        """Begin with another segment. Its counters get what was lost with the last one."""
        if self._uncounted:
            core.count(_DAMAGED, self._uncounted)
            self._uncounted = 0
        self._met.clear()
        self._seen = core.counters()[_DAMAGED]

    def has_cost(self, core: _core.Segment) -> bool:
        """Whether a repair, by any process, has lost something since the last call."""
        before, self._seen = self._seen, core.counters()[_DAMAGED]
        return before != self._seen

    def why_lost(self, core: _core.Segment) -> str | None:
        """Why this process has to attach again, or None. Logs the repairs that it has made."""
        reason = core.lost()
        if reason is not None:
            return reason
        repairs, lost = core.take_repairs()
        if not repairs:
            return None
        warn(
            ("repaired", self._prefix),
            f"The shared segment of prefix {self._prefix!r} held inconsistent data and was repaired. Messages, "
            f"memberships or channels that could not be saved: {lost}, counted as damaged. If no process was just "
            f"killed, something else writes to it.",
        )
        now = monotonic()
        self._met.extend([now] * min(repairs, _MOST))
        return "repairs" if len(self._met) == _MOST and now - self._met[0] < _WITHIN else None

    def retire(self, core: _core.Segment, reason: str) -> bool:
        """Log the loss, and mark the segment so that all processes move. False: only this process has lost it."""
        if reason not in _WHY:
            text = "some code closed descriptors that are not its own. Attaching again."
        else:
            unread = core.retire() if reason != "truncated" else None
            self._uncounted += unread or 0
            text = f"{_WHY[reason]}. Moving to a new one; unread messages are lost"
            text += f": {unread}, counted as damaged." if unread is not None else "."
        warn(("lost", self._prefix), f"The shared segment of prefix {self._prefix!r} was lost ({reason}): {text}")
        return reason in _WHY
