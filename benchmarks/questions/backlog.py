"""Does it cost more to send and receive when many messages wait already?"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from benchmarks.arena import Party, Role
from benchmarks.contestants import LAYERS, Contestant
from benchmarks.message import listen, message
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, Tally, quantile

_FEW = 10
_WARM_UP = 100
_LANES = 50
"""Tasks that fill the channel at the same time. Each counts as a sender: concurrent sends have no order."""
_WORKER = _LANES
_PATIENCE = 60


class Backlog:
    """A send and a receive in turn, with few and with many messages waiting in the same channel."""

    key = "backlog"
    columns = (
        Column("growth", "many / few", ".2f"),
        Column("few_us", "us with few"),
        Column("many_us", "us with many"),
    )
    references = ()
    contestants = LAYERS
    text = (
        "Does it cost more to send and receive when many messages wait? One process fills a normal channel; another "
        "sends and receives in turn, at 10 waiting messages, at many, and at 10 again; medians of a pair of calls."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        levels = [_FEW, means.scale.many, _FEW]
        filled, (medians, added, got) = means.arena.run(
            contestant,
            [
                Role(fill, channel="back.log", levels=levels),
                Role(turn_over, channel="back.log", levels=levels, seconds=means.scale.seconds / 2),
            ],
            timeout=2 * _PATIENCE,
        )
        before, many, after = medians
        few = (before + after) / 2
        sent = itertools.chain(
            ((lane, number) for lane, count in enumerate(filled) for number in range(count)),
            ((_WORKER, number) for number in range(added)),
        )
        tally = Tally().compare(sent, [got])
        figures = {"growth": many / few, "few_us": few * 1e6, "many_us": many * 1e6}
        return Sample(figures, lost=tally.lost, twice=tally.twice, disorder=tally.disorder)


async def fill(layer: Any, party: Party, channel: str, levels: list[int]) -> list[int]:
    """Raise the number of waiting messages from level to level; how many each lane sent for that."""
    sent = [0] * _LANES

    async def fill_lane(lane: int, count: int) -> None:
        for _ in range(count):
            await layer.send(channel, message(sent[lane], lane))
            sent[lane] += 1

    await party.meet()
    waiting = -1  # the worker's first receive(), which began before, takes one
    for level in levels:
        missing = max(0, level - waiting)
        await asyncio.gather(*(fill_lane(lane, (missing + lane) // _LANES) for lane in range(_LANES)))
        waiting = level
        await party.meet()
        await party.meet()
    return sent


async def turn_over(
    layer: Any, party: Party, channel: str, levels: list[int], seconds: float
) -> tuple[list[float], int, list[tuple[int, int]]]:
    """Send one and receive one at each level; the medians, how many were sent, and all that was received."""
    got: list[tuple[int, int]] = []

    def note(received: dict[str, Any]) -> None:
        got.append((received["sender"], received["number"]))

    first = await listen(layer, channel)
    await party.meet()
    medians = []
    sent = 0
    waiting = 0
    async with asyncio.timeout(_PATIENCE):
        for level in levels:
            await party.meet()
            if sent == 0:
                note(await first)
            for _ in range(waiting - level):
                note(await layer.receive(channel))
            waiting = level
            times = []
            end = time.perf_counter() + seconds
            while (began := time.perf_counter()) < end:
                await layer.send(channel, message(sent, _WORKER))
                received = await layer.receive(channel)
                times.append(time.perf_counter() - began)
                note(received)
                sent += 1
            medians.append(quantile(times[_WARM_UP:] or times, 0.5))
            await party.meet()
        for _ in range(waiting):
            note(await layer.receive(channel))
    return medians, sent, got
