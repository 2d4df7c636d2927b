# SPDX-License-Identifier: BSD-3-Clause
"""A process's attachment to a segment, as a wait set needs it. `segment.LocalSegment` implements it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hybrid_layer.ipc import _core


class Attachment(Protocol):
    """The attachment of one process to the segment of one prefix. It outlives a move to another segment."""

    core: _core.Segment
    """The segment that the process uses now."""
    wakers: dict[int, Callable[[], None]]
    """By number of an event loop of this process: a function that wakes the loop."""

    def is_own(self) -> bool:
        """Whether this process is attached: this one, not a parent of it."""

    def has_changed_user(self) -> bool:
        """Whether the process has another user than the segment (setuid)."""

    def recover_if_lost(self) -> bool:
        """Move to a new segment if this one can no longer be used. True: it moved, or tried to."""

    def wake_loops(self, loops: int) -> None:
        """Wake event loops of this process. Bit n of `loops` stands for the loop with number n."""

    def defer(self, operation: Callable[[_core.Segment], int | None]) -> None:
        """Run `operation` now, or once the segment's lock can be acquired. It may return loops to wake, as bits."""

    def run_deferred(self) -> None:
        """Run deferred operations."""

    def tidy_up(self) -> None:
        """Remove doorbells of killed processes. Warn of messages that expired on a channel that no process has read."""
