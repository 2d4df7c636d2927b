"""A process's attachment to a segment, as those who wait in it need it. `segment.LocalSegment` is the one there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hybrid_layer.ipc import _core


class Attachment(Protocol):
    """Of one process to the segment of one prefix. It outlives a move to another segment."""

    core: _core.Segment
    """The segment that the process uses now."""
    wakers: dict[int, Callable[[], None]]
    """Bit of a loop of this process -> wake that loop."""

    def is_own(self) -> bool:
        """Whether this process, not a parent of it, has attached, and has not left."""

    def has_changed_user(self) -> bool:
        """Whether the process is another user's than the segment (setuid)."""

    def recover_if_lost(self) -> bool:
        """Move to a new segment if this one cannot be used any more. True: moved, or tried to."""

    def wake_loops(self, loops: int) -> None:
        """Wake event loops of this process: bit n is the loop with number n."""

    def defer(self, operation: Callable[[_core.Segment], int | None]) -> None:
        """Do what has to be done before long, now or when the lock can be acquired. It may return loops to wake."""

    def run_deferred(self) -> None:
        """Try again what could not be done when it was due."""

    def tidy_up_after_the_dead(self) -> None:
        """Remove the doorbells that killed processes left behind, if any process was found dead since the last time."""

    def warn_of_unread(self) -> None:
        """Warn if messages expired on a normal channel where nobody has ever looked for them."""
