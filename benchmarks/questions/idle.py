"""Does a message take longer to a process in which many other consumers wait?"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.arena import Party, Role
from benchmarks.contestants import LAYERS, Contestant
from benchmarks.pingpong import WARM_UP, Stretch, Trips, echo, ping
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, quantile

_FEW = 10
_AT_ONCE = 100
"""Consumers that come or go before the others get a turn."""
_SETTLING = 0.3
"""Seconds after a change in their number."""


class Idle:
    """Round trips with a process that also waits on few, or many, process-specific channels that get nothing."""

    key = "idle"
    columns = (
        Column("growth", "many / few", ".2f"),
        Column("few_us", "p50 us with few"),
        Column("many_us", "p50 us with many"),
    )
    references = ()
    contestants = LAYERS
    text = (
        "Does a message take longer to a process in which many others wait? Round trips on process-specific channels; "
        "the answering process also awaits 10 other channels of its own, then many, then 10 again; p50 of the round "
        "trip, both processes on one processor."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        stretches = [WARM_UP] + 3 * [Stretch(means.scale.seconds / 2)]
        levels = [_FEW, _FEW, means.scale.many, _FEW]
        trips: list[Trips]
        trips, _ = means.arena.run(
            contestant,
            [
                Role(ping, channel=None, stretches=stretches),
                Role(echo_among_idle, stretches=stretches, levels=levels),
            ],
            # Where the kernel puts them may change in between, and that would hide what is asked.
            pin="together",
            timeout=120,
        )
        before, many, after = (quantile(stretch.seconds, 0.5) for stretch in trips[1:])
        few = (before + after) / 2
        figures = {"growth": many / few, "few_us": few * 1e6, "many_us": many * 1e6}
        return Sample(figures, twice=sum(stretch.twice for stretch in trips))


async def echo_among_idle(layer: Any, party: Party, stretches: list[Stretch], levels: list[int]) -> None:
    """`echo`, with as many idle receivers in each stretch as `levels` says."""
    idle: list[asyncio.Task[Any]] = []

    async def settle(stretch: int) -> None:
        while len(idle) > levels[stretch]:
            gone = [idle.pop() for _ in range(min(_AT_ONCE, len(idle) - levels[stretch]))]
            for task in gone:
                task.cancel()
            await asyncio.wait(gone)
        while len(idle) < levels[stretch]:
            names = [await layer.new_channel() for _ in range(min(_AT_ONCE, levels[stretch] - len(idle)))]
            idle.extend(asyncio.create_task(layer.receive(name)) for name in names)
            await asyncio.sleep(0)
        await asyncio.sleep(_SETTLING)

    await echo(layer, party, None, stretches, before=settle)
    for task in idle:
        task.cancel()
    await asyncio.wait(idle)
