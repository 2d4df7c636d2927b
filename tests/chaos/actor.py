"""What every worker has, whatever it does: its dice, its journal, and the numbers of its messages."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Protocol

from tests.chaos.arena import Arena, Phase
from tests.chaos.journal import Journal


class Seat(Protocol):
    """Who a worker is."""

    @property
    def directory(self) -> Path:
        """Of the journals."""

    @property
    def incarnation(self) -> int:
        """Its number among all that there ever were."""

    @property
    def seed(self) -> int:
        """Of its dice."""


class Actor:
    """A worker in its process."""

    def __init__(self, seat: Seat, arena: Arena) -> None:
        self.arena = arena
        self.random = random.Random(seat.seed)
        self.journal = Journal(seat.directory, seat.incarnation)
        self.numbers = itertools.count(1)
        self.own: list[str] = []
        """Its process-specific channels."""

    @property
    def is_working(self) -> bool:
        """Whether the round goes on."""
        return self.arena.phase == Phase.WORK
