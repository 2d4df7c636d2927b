"""The two roles of a round trip, in stretches: ping, who asks and looks at the clock, and echo, who answers.

`ping` must be the first role of its run and `echo` the second; others may look on. They meet to tell each other their
channels, then at the start of each stretch, then at the end of all.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.arena import Party
from benchmarks.message import END, HELLO, TEXT, listen, message

_LEAST = 100
"""Round trips: on a busy machine a short stretch would be over after a few, and its median mean nothing."""
_PATIENCE = 10
"""Seconds that one stretch may last beyond its own length, before it counts as stuck: a message was lost."""


@dataclass(frozen=True)
class Stretch:
    """Round trips until `count` of them were made or `seconds` are over, but at least `_LEAST`."""

    seconds: float
    count: int = 10**9
    text: str = TEXT


WARM_UP = Stretch(seconds=1, count=200)


@dataclass
class Trips:
    """What `ping` saw in one stretch."""

    seconds: list[float] = field(default_factory=list)
    twice: int = 0

    @property
    def messages(self) -> int:
        """Both ways, with the one that ended the stretch."""
        return 2 * len(self.seconds) + 1


async def ping(layer: Any, party: Party, channel: str | None, stretches: list[Stretch]) -> list[Trips]:
    """Round trips to echo and back. Without `channel`, on process-specific channels."""
    here = f"{channel}.ping" if channel else await layer.new_channel()
    first = await listen(layer, here)
    _, there, *_ = await party.meet(here)
    await layer.send(there, message(HELLO))
    await first
    results = []
    for stretch in stretches:
        await party.meet()
        async with asyncio.timeout(stretch.seconds + _PATIENCE):
            results.append(await _go(layer, here, there, stretch))
    await party.meet()
    return results


async def _go(layer: Any, here: str, there: str, stretch: Stretch) -> Trips:
    trips = Trips()
    end = time.perf_counter() + stretch.seconds
    for number in itertools.count():
        question = message(number, text=stretch.text)
        asked = time.perf_counter()
        await layer.send(there, question)
        answer = await layer.receive(here)
        while answer["number"] != number:
            trips.twice += 1
            answer = await layer.receive(here)
        answered = time.perf_counter()
        trips.seconds.append(answered - asked)
        if number + 1 == stretch.count or (answered > end and number >= _LEAST):
            break
    await layer.send(there, message(END))
    return trips


async def echo(
    layer: Any,
    party: Party,
    channel: str | None,
    stretches: list[Stretch],
    before: Callable[[int], Awaitable[None]] | None = None,
) -> None:
    """The other side of `ping`. `before` is called with the index of each stretch, while ping waits."""
    here = f"{channel}.echo" if channel else await layer.new_channel()
    first = await listen(layer, here)
    there, *_ = await party.meet(here)
    await layer.send(there, message(HELLO))
    await first
    for index in range(len(stretches)):
        if before is not None:
            await before(index)
        await party.meet()
        while (question := await layer.receive(here))["number"] != END:
            await layer.send(there, question)
    await party.meet()
