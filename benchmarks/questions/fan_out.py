"""How long until a group message has reached every member?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.arena import Party, Role
from benchmarks.contestants import LAYERS, SHARED_LAYERS, Contestant
from benchmarks.members import join_groups
from benchmarks.message import message
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, quantile
from benchmarks.server import Reading

_WARM_UP = 3
_LEAST = 10
"""Messages that are measured even if that takes longer than a stretch should."""
_MOST_IN_MEMORY = 1000
"""Members up to which InMemory takes part: it needs 200 ms for a thousand, and seconds for ten times as many."""
_PATIENCE = 3
"""Seconds after which a message that has not reached everybody is given up, and the run with it."""


@dataclass
class Home:
    """What one process's members saw."""

    complete: list[float]
    """When the last of them had each message."""
    got: int = 0
    twice: int = 0


class FanOut:
    """One sender, and members in some other processes, each with a coroutine that waits."""

    references = ("channels_redis pubsub",)

    def __init__(self, members: int, homes: int = 2) -> None:
        """Without number of processes in its name, there are two."""
        self.key = f"fan_out_{members}" if homes == 2 else f"fan_out_{members}_in_{homes}"
        self.contestants = LAYERS if members <= _MOST_IN_MEMORY else SHARED_LAYERS
        self._members = members
        self._homes = homes
        self.columns = (
            Column("p50_ms", "p50 ms", ",.2f"),
            Column("cpu_ms", "CPU ms/group_send", ",.2f"),
            Column("server_cpu_us", "of the server, us"),
        )
        self.text = (
            f"How long until a group message has reached {members:,} members in {homes} processes? From the call of "
            "group_send in another process until the last member has it, one message at a time."
        )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        readings: list[Reading] = []
        sent, *homes = means.arena.run(
            contestant,
            [Role(send_to_group, seconds=means.scale.seconds, homes=self._homes)]
            + [Role(live_in_group, members=self._members // self._homes) for _ in range(self._homes)],
            at_meeting=lambda meeting: readings.append(means.observer.read(meeting)),
        )
        durations = [
            max(completed) - began for began, *completed in zip(sent, *(home.complete for home in homes), strict=False)
        ]
        figures = {"p50_ms": quantile(durations[_WARM_UP:] or [float("nan")], 0.5) * 1e3}
        _, start, _, end = readings
        figures["cpu_ms"] = (end.clients_cpu - start.clients_cpu) / len(sent) * 1e3
        if contestant.remote:
            figures["server_cpu_us"] = (end.server_cpu - start.server_cpu) / len(sent) * 1e6
        lost = len(sent) * self._members - sum(home.got for home in homes)
        return Sample(figures, lost=lost, twice=sum(home.twice for home in homes))


async def send_to_group(layer: Any, party: Party, seconds: float, homes: int) -> list[float]:
    """When each message was sent."""
    here = await layer.new_channel()
    await party.meet(here)
    await party.meet()
    end = time.monotonic() + seconds
    sent: list[float] = []
    while time.monotonic() < end or len(sent) < _WARM_UP + _LEAST:
        news = message(len(sent))
        sent.append(time.monotonic())
        await layer.group_send("fan.out", news)
        try:
            async with asyncio.timeout(_PATIENCE):
                for _ in range(homes):
                    await layer.receive(here)
        except TimeoutError:
            break
    await party.meet()
    await party.meet()
    return sent


async def live_in_group(layer: Any, party: Party, members: int) -> Home:
    """Members, each waiting in a coroutine of its own; the process tells the sender when all have a message."""
    back, *_ = await party.meet()
    home = Home(complete=[])
    missing: dict[int, int] = {}

    async def live(channel: str) -> None:
        expected = 0
        while True:
            number = (await layer.receive(channel))["number"]
            if number < expected:
                home.twice += 1
                continue
            expected = number + 1
            home.got += 1
            missing[number] = missing.get(number, members) - 1
            if missing[number] == 0:
                home.complete.append(time.monotonic())
                del missing[number]
                await layer.send(back, message(number))

    async with join_groups(layer, [["fan.out"]] * members, live):
        await party.meet()
        await party.meet()
    await party.meet()
    return home
