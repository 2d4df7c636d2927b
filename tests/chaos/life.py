"""One worker's life, as the process that runs the round knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.workers import Seat

if TYPE_CHECKING:
    from tests.chaos.zygote import Zygote


@dataclass(eq=False)
class Life:
    seat: Seat
    zygote: Zygote
    killed: tuple[float, float] | None = None
    """When it still lived, and when it was dead; None: it ended in order."""

    def __str__(self) -> str:
        return f"{self.seat.role} {self.seat.incarnation}"
