# SPDX-License-Identifier: BSD-3-Clause
"""The error for a broken reading connection, and the pauses between tries to reopen it."""

from __future__ import annotations

from hybrid_layer.statistics import warn
from hybrid_layer.timers import sleep

_PAUSES = (0.02, 0.5)
"""First and longest pause between two tries, in seconds: a server that is back is noticed well within a second."""
_FAILURES_BEFORE_WARNING = 4
LINGER = 0.05
"""Seconds that a read continues after its last waiter left."""


class ReadingLost(Exception):
    """A reading connection broke, or could not be opened."""


class Backoff:
    """The tries of one reader."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.failures = 0
        """Since a try last succeeded."""

    async def pause(self, cause: ReadingLost) -> None:
        """Wait before the next try, longer each time."""
        first, last = _PAUSES
        if self.failures >= _FAILURES_BEFORE_WARNING:
            warn(
                ("reading", self._label),
                f"Cannot read from the server {self._label}; receivers wait, and the layer tries again: {cause}",
            )
        await sleep(min(last, first * 2 ** min(self.failures, 10)))
        self.failures += 1
