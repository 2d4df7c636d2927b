"""What a process says and counts when shared memory was damaged or removed, and when it gives a segment up."""

from __future__ import annotations

from collections import deque

from hybrid_layer.clock import monotonic
from hybrid_layer.ipc import _core
from hybrid_layer.statistics import KEYS, warn

_DAMAGED = KEYS.index("damaged")
_MOST = 5
_WITHIN = 60.0
"""Seconds: a segment in which this process has met damage so often in such a time is given up."""

_WHY = {
    "unlinked": "something removed it, such as systemd's RemoveIPC or a cleaned /dev/shm",
    "retired": "another process has found it removed or damaged",
    "damaged": "something has overwritten its header",
    "repairs": "it is damaged again and again; something goes on writing to it",
    "truncated": "something has cut it off; who touches it before it has noticed ends with SIGBUS",
}
"""Why a segment is given up, for another one."""


class Damage:
    """What one process knows of damage to the segment of `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._met: deque[float] = deque(maxlen=_MOST)
        self._seen = 0
        self._uncounted = 0
        """Messages that were unread in a segment that was given up."""

    def attached(self, core: _core.Segment) -> None:
        """Begin with another segment, whose counters then tell what was lost with the last one."""
        if self._uncounted:
            core.count(_DAMAGED, self._uncounted)
            self._uncounted = 0
        self._met.clear()
        self._seen = core.counters()[_DAMAGED]

    def has_cost(self, core: _core.Segment) -> bool:
        """Whether repairs by any process have cut something off since the last call."""
        before, self._seen = self._seen, core.counters()[_DAMAGED]
        return before != self._seen

    def why_lost(self, core: _core.Segment) -> str | None:
        """Why this process has to attach anew, if it has to. Tells of the repairs that it has made."""
        reason = core.lost()
        if reason is not None:
            return reason
        repairs, lost = core.take_repairs()
        if not repairs:
            return None
        warn(
            ("repaired", self._prefix),
            "The shared segment of prefix %r held inconsistent data and was repaired. Messages, memberships or "
            "channels that could not be saved: %s, counted as damaged. Something else writes to it, if no process was "
            "just killed.",
            self._prefix,
            lost,
        )
        now = monotonic()
        self._met.extend([now] * min(repairs, _MOST))
        return "repairs" if len(self._met) == _MOST and now - self._met[0] < _WITHIN else None

    def retire(self, core: _core.Segment, reason: str) -> bool:
        """Send all processes away from a segment that is lost for all of them. False: only this one has lost it."""
        if reason not in _WHY:
            text = "some code closed descriptors that are not its own. Attaching anew."
        else:
            unread = core.retire() if reason != "truncated" else None
            self._uncounted += unread or 0
            text = f"{_WHY[reason]}. Moving to a new one; unread messages are gone"
            text += f": {unread}, counted as damaged." if unread is not None else "."
        warn(("lost", self._prefix), "The shared segment of prefix %r was lost (%s): %s", self._prefix, reason, text)
        return reason in _WHY
