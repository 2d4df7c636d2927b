"""What a question is: who takes part, how one run is measured, which figures come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.arena import Arena
from benchmarks.backends import Backends
from benchmarks.contestants import Contestant
from benchmarks.results import Column, Sample
from benchmarks.server import Observer


@dataclass(frozen=True)
class Scale:
    """How long and how large, from --quick or not."""

    rounds: int
    seconds: float
    """Length of each measured stretch."""
    many: int
    """Where a question compares few with many, the many."""
    messages: int
    """Where a question counts and does not time, how many."""


@dataclass(frozen=True)
class Means:
    """What a question measures with."""

    arena: Arena
    observer: Observer
    """Of the server of most questions."""
    backends: Backends
    """For questions about several servers."""
    scale: Scale


class Question(Protocol):
    @property
    def key(self) -> str:
        """For --only and JSON."""

    @property
    def text(self) -> str:
        """What is asked, and under which conditions, in words."""

    @property
    def contestants(self) -> Sequence[str]:
        """Their names, in the order of the table."""

    @property
    def columns(self) -> Sequence[Column]:
        """The first is the main figure: the one with spread and ratios."""

    @property
    def references(self) -> Sequence[str]:
        """Contestants whose main figure the others' are divided by."""

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        """Run once. Raises `RunFailed`."""
