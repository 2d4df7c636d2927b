"""How many messages a second go one way?"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from channels.exceptions import ChannelFull

from benchmarks.arena import Party, Role
from benchmarks.contestants import CARRIERS, REMOTE_LAYERS, Contestant
from benchmarks.message import HELLO, listen, message
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, Tally
from benchmarks.server import Reading

_LOOKS_AT_CLOCK = 64
"""Messages between two looks of a sender."""
_FULL_PAUSE = 0.001
"""Seconds that a sender sleeps when the channel is full."""
_SILENCE = 0.25
"""Seconds without a message, once the senders have stopped, after which a receiver has all."""


@dataclass
class Sent:
    """A sender's account."""

    began: float
    """time.monotonic(), the same clock in all processes."""
    counts: list[int]
    """By coroutine."""
    full: int = 0


@dataclass
class Got:
    """A receiver's account: who sent what it got, and which number."""

    senders: array[int]
    numbers: array[int]
    last: float


class OneWay:
    """Senders that send as fast as they can, and receivers, all in processes of their own, on one channel."""

    columns = (
        Column("per_second", "messages/s"),
        Column("full", "times full"),
        Column("cpu_us", "CPU us/message", ",.1f"),
        Column("server_cpu_us", "of the server"),
    )
    references: tuple[str, ...] = ("bare pipe", "channels_redis core", "channels_redis pubsub")
    contestants = CARRIERS

    def __init__(self, key: str, pairs: int = 1, tasks: int = 1, channel: str | None = "one.way") -> None:
        """`tasks`: coroutines of each sending process. Without `channel`, to a process-specific one; then one pair."""
        self.key = key
        self._pairs = pairs
        self._tasks = tasks
        self._channel = channel
        each = f"{tasks} coroutines of the sender each await" if tasks > 1 else "each sender awaits"
        self.text = (
            f"How many messages a second go one way? {pairs} sending and {pairs} receiving processes on one "
            f"{'normal' if channel else 'process-specific'} channel of capacity 20,000; {each} one send after the "
            "other, and sleep 1 ms when it is full."
        )
        if pairs > 1:
            # A pipe cannot share out messages, and one process is one pair.
            self.contestants = tuple(name for name in self.contestants if name not in ("bare pipe", "InMemory"))
        if tasks > 1:
            self.contestants, self.references = REMOTE_LAYERS, ("channels_redis core", "channels_redis pubsub")

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        readings: list[Reading] = []
        results = means.arena.run(
            contestant,
            [
                Role(send, number=number * self._tasks, tasks=self._tasks, seconds=means.scale.seconds)
                for number in range(self._pairs)
            ]
            + [Role(receive, channel=self._channel) for _ in range(self._pairs)],
            at_meeting=lambda meeting: readings.append(means.observer.read(meeting)),
        )
        sent: list[Sent] = results[: self._pairs]
        got: list[Got] = results[self._pairs :]
        tally = Tally().compare(
            (
                (sender, number)
                for sender, count in enumerate(count for account in sent for count in account.counts)
                for number in range(count)
            ),
            [list(zip(account.senders, account.numbers, strict=True)) for account in got],
        )
        count = sum(sum(account.counts) for account in sent)
        duration = max(account.last for account in got) - min(account.began for account in sent)
        figures = {
            "per_second": (count - tally.lost) / duration,
            "full": sum(account.full for account in sent),
        }
        _, start, _, end = readings
        figures["cpu_us"] = (end.clients_cpu - start.clients_cpu) / count * 1e6
        if contestant.remote:
            figures["server_cpu_us"] = (end.server_cpu - start.server_cpu) / count * 1e6
        return Sample(figures, lost=tally.lost, twice=tally.twice, disorder=tally.disorder)


async def send(layer: Any, party: Party, number: int, tasks: int, seconds: float) -> Sent:
    """Coroutines that send; the first one's number as a sender is `number`."""
    *_, channel = await party.meet()
    await layer.send(channel, message(HELLO))
    await party.meet()
    sent = Sent(began=time.monotonic(), counts=[0] * tasks)
    end = sent.began + seconds

    async def go(task: int) -> None:
        count = 0
        while True:
            try:
                await layer.send(channel, message(count, number + task))
                count += 1
            except ChannelFull:
                sent.full += 1
                await asyncio.sleep(_FULL_PAUSE)
            if count % _LOOKS_AT_CLOCK == 0 and time.monotonic() > end:
                break
        sent.counts[task] = count

    await asyncio.gather(*map(go, range(tasks)))
    await party.meet()
    await party.meet()
    return sent


async def receive(layer: Any, party: Party, channel: str | None) -> Got:
    """Take messages until the senders have stopped and nothing comes any more."""
    channel = channel or await layer.new_channel()
    first = await listen(layer, channel)
    await party.meet(channel)
    await first
    await party.meet()
    got = Got(array("q"), array("q"), last=time.monotonic())
    reading = asyncio.create_task(_read(layer, channel, got))
    await _still_reading(reading, party.meet())
    stopped = time.monotonic()
    while (silence := time.monotonic() - max(got.last, stopped)) < _SILENCE:
        await _still_reading(reading, asyncio.sleep(_SILENCE - silence))
    reading.cancel()
    await asyncio.wait([reading])
    await party.meet()
    return got


async def _read(layer: Any, channel: str, got: Got) -> None:
    senders, numbers = got.senders.append, got.numbers.append
    while True:
        received = await layer.receive(channel)
        if received["number"] != HELLO:
            senders(received["sender"])
            numbers(received["number"])
            got.last = time.monotonic()


async def _still_reading(reading: asyncio.Task[None], until: Coroutine[Any, Any, Any]) -> None:
    """Wait for `until`; if reading fails before, raise its error."""
    ending = asyncio.create_task(until)
    await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
    if reading.done():
        reading.result()
