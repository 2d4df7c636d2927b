"""How many messages a second does synchronous code send?"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

from asgiref.sync import async_to_sync

from benchmarks.arena import Party, Role
from benchmarks.contestants import ALL_LAYERS, Contestant
from benchmarks.message import END, HELLO, listen, message
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, Tally
from benchmarks.server import Reading

_WARM_UP = 50
"""Calls of each thread before the clock runs."""
_WARM_UP_NUMBERS = 1_000_000_000
"""From here on they are numbered."""
_PATIENCE = 30
"""Seconds after which a receiver gives up waiting for the END."""

Identities = list[tuple[int, int]]


class SyncSend:
    """Threads that call async_to_sync(layer.send), as a Django view or a Celery task does."""

    columns = (
        Column("per_second", "calls/s"),
        Column("cpu_us", "CPU us/call"),
        Column("connections", "new connections per call", ".3f"),
    )
    references = ("empty coroutine", "InMemory")
    contestants = ("empty coroutine", *ALL_LAYERS)

    def __init__(self, key: str, threads: int) -> None:
        self.key = key
        self._threads = threads
        self.text = (
            "How many messages a second does synchronous code send? "
            f"{threads} thread{'s' if threads > 1 else ''} of one process without an event loop "
            f"call{'' if threads > 1 else 's'} async_to_sync(layer.send); another process receives all of it once the "
            "clock has stopped."
        )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        readings: list[Reading] = []
        call = Role(
            call_send,
            channel="sync.send",
            threads=self._threads,
            seconds=means.scale.seconds,
            then_drain=contestant.one_process and not contestant.bare,
        )
        roles: list[Role[Any]] = [call] if contestant.one_process else [call, Role(receive, channel="sync.send")]
        (sent, duration, got), *received = means.arena.run(
            contestant, roles, at_meeting=lambda meeting: readings.append(means.observer.read(meeting))
        )
        if received:
            [got] = received
        count = sum(sent)
        _, _, start, end = readings
        figures = {"per_second": count / duration, "cpu_us": (end.clients_cpu - start.clients_cpu) / count * 1e6}
        if contestant.remote:
            figures["connections"] = (end.connections - start.connections) / count
        if contestant.bare:
            return Sample(figures)
        tally = Tally().compare(
            ((thread, number) for thread, numbers in enumerate(sent) for number in range(numbers)), [got]
        )
        return Sample(figures, lost=tally.lost, twice=tally.twice, disorder=tally.disorder)


def call_send(
    layer: Any, party: Party, channel: str, threads: int, seconds: float, then_drain: bool
) -> tuple[list[int], float, Identities]:
    """How many messages each thread sent; how long it took; what was left in the channel (only with `then_drain`)."""
    send = async_to_sync(layer.send)
    counts = [0] * threads
    ready, go = threading.Barrier(threads + 1), threading.Barrier(threads + 1)
    errors: list[Exception] = []

    def call(thread: int) -> None:
        try:
            for number in range(_WARM_UP):
                send(channel, message(_WARM_UP_NUMBERS + number, thread))
            ready.wait()
            go.wait()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                send(channel, message(counts[thread], thread))
                counts[thread] += 1
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits for this one
            errors.append(error)
            ready.abort()
            go.abort()

    party.meet_blocking()
    send(channel, message(HELLO))
    party.meet_blocking()
    callers = [threading.Thread(target=call, args=(thread,)) for thread in range(threads)]
    for caller in callers:
        caller.start()
    try:
        ready.wait()
        party.meet_blocking()
        began = time.monotonic()
        go.wait()
    except threading.BrokenBarrierError:
        pass  # a thread failed
    for caller in callers:
        caller.join()
    if errors:
        raise errors[0]
    duration = time.monotonic() - began
    party.meet_blocking()
    send(channel, message(END))
    got = asyncio.run(_drain(layer, channel)) if then_drain else []
    return counts, duration, got


async def receive(layer: Any, party: Party, channel: str) -> Identities:
    """What came before the END, taken after it."""
    first = await listen(layer, channel)
    await party.meet()
    await first
    await party.meet()
    # Not before the clock has stopped: InMemory could not have a receiver in another process, which competes for the
    # processors. What a sender pays for waking one is part of the round trip.
    await party.meet()
    await party.meet()
    return await _drain(layer, channel)


async def _drain(layer: Any, channel: str) -> Identities:
    """What comes before the END, or before patience ends."""
    got: Identities = []
    # The limit is on the whole: one on each receive() would cost a timer each.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while (received := await layer.receive(channel))["number"] != END:
                if 0 <= received["number"] < _WARM_UP_NUMBERS:
                    got.append((received["sender"], received["number"]))
    return got
