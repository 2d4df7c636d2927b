"""What does a larger message cost?"""

from __future__ import annotations

from benchmarks.arena import Role
from benchmarks.contestants import SHARED_LAYERS, Contestant
from benchmarks.pingpong import WARM_UP, Stretch, echo, ping
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, quantile

_SIZES = {"1 MiB": 1 << 20, "100 KiB": 100 << 10, "10 KiB": 10 << 10, "1 KiB": 1 << 10, "100 bytes": 100}
"""Bytes of text; the message has about 50 more. The largest comes first: it is the main figure."""


class Sizes:
    """Round trips with messages of several sizes."""

    key = "sizes"
    columns = tuple(Column(f"us_{size}", f"{name}, us") for name, size in _SIZES.items())
    references = ("channels_redis core",)
    contestants = SHARED_LAYERS
    text = (
        "What does a larger message cost? Round trips on a normal channel with text of 100 bytes to 1 MiB; p50, two "
        "processes, one message under way at a time. The ratios are those of 1 MiB."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        stretches = [WARM_UP] + [Stretch(means.scale.seconds / 2, text="x" * size) for size in _SIZES.values()]
        (_, *trips), _ = means.arena.run(
            contestant,
            [Role(ping, channel="sizes", stretches=stretches), Role(echo, channel="sizes", stretches=stretches)],
        )
        figures = {
            f"us_{size}": quantile(stretch.seconds, 0.5) * 1e6
            for size, stretch in zip(_SIZES.values(), trips, strict=True)
        }
        return Sample(figures, twice=sum(stretch.twice for stretch in trips))
