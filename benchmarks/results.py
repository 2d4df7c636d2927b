"""What runs yield, and how several runs become one figure: medians, and medians of the ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """One figure that a question yields for each contestant."""

    key: str
    title: str
    form: str = ",.0f"


@dataclass
class Sample:
    """What one run of one contestant yielded."""

    figures: dict[str, float]
    lost: int = 0
    twice: int = 0
    disorder: int = 0
    """Messages of one sender that came after a later one of the same sender."""


@dataclass
class Series:
    """All runs of one contestant for one question, by round."""

    samples: dict[int, Sample] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def values(self, key: str) -> list[float]:
        return [sample.figures[key] for sample in self.samples.values() if key in sample.figures]

    def median(self, key: str) -> float | None:
        values = self.values(key)
        return statistics.median(values) if values else None

    def total(self, count: str) -> int:
        return sum(getattr(sample, count) for sample in self.samples.values())

    def ratio(self, other: Series, key: str) -> float | None:
        """The median, over the rounds that both ran in, of this figure divided by the other's in the same round.

        Within a round the machine was in much the same mood, over the whole benchmark it was not.
        """
        ratios = [ours / theirs for ours, theirs in self._pairs(other, key) if theirs]
        return statistics.median(ratios) if ratios else None

    def difference(self, other: Series, key: str) -> float | None:
        """The same for this figure less the other's."""
        differences = [ours - theirs for ours, theirs in self._pairs(other, key)]
        return statistics.median(differences) if differences else None

    def _pairs(self, other: Series, key: str) -> list[tuple[float, float]]:
        return [
            (sample.figures[key], other.samples[number].figures[key])
            for number, sample in self.samples.items()
            if number in other.samples and key in other.samples[number].figures and key in sample.figures
        ]


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass
class Tally:
    """Ids that were sent, against those that arrived: lost, twice, out of order."""

    lost: int = 0
    twice: int = 0
    disorder: int = 0

    def compare(self, sent: Iterable[tuple[int, int]], receivers: Iterable[Sequence[tuple[int, int]]]) -> Tally:
        """`sent` and what each receiver got: (sender, number), numbers rising for each sender."""
        expected = set(sent)
        seen: set[tuple[int, int]] = set()
        for got in receivers:
            newest: dict[int, int] = {}
            for identity in got:
                sender, number = identity
                if identity in seen:
                    self.twice += 1
                elif number < newest.get(sender, -1):
                    self.disorder += 1
                newest[sender] = max(number, newest.get(sender, -1))
                seen.add(identity)
        self.lost += len(expected - seen)
        return self
