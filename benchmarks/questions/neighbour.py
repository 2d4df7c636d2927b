"""A process of the site computes without a pause: what do the others feel?"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from benchmarks.arena import Party, Role
from benchmarks.contestants import SHARED_LAYERS, Contestant
from benchmarks.message import HELLO, listen, message
from benchmarks.pingpong import WARM_UP, Stretch, echo, ping
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, quantile

_RARE = 0.999
_LEAST = 3.0
"""Seconds of each stretch: of a thousand trips one is slower than the quantile."""


class Neighbour:
    """Round trips beside a third process of the same layer, which is idle, then computes in a thread."""

    key = "neighbour"
    columns = (
        Column("growth", "p99.9 busy / idle", ".2f"),
        Column("idle_us", "p99.9 us, idle"),
        Column("busy_us", "p99.9 us, busy"),
        Column("idle_p50_us", "p50 us, idle"),
        Column("busy_p50_us", "p50 us, busy"),
    )
    references = ()
    contestants = SHARED_LAYERS
    text = (
        "A process of the site computes without a pause: what do the others feel? Round trips of two processes on one "
        "processor; a third, on another one where there is one, waits for messages too, and computes in a thread "
        "during the second stretch; p99.9 of the round trip."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        seconds = max(means.scale.seconds, _LEAST)
        stretches = [WARM_UP, Stretch(seconds), Stretch(seconds)]
        (_, idle, busy), *_ = means.arena.run(
            contestant,
            [
                Role(ping, channel="neighbour", stretches=stretches),
                Role(echo, channel="neighbour", stretches=stretches),
                Role(compute, stretches=len(stretches)),
            ],
            pin="together",
        )
        figures = {
            "idle_us": quantile(idle.seconds, _RARE) * 1e6,
            "busy_us": quantile(busy.seconds, _RARE) * 1e6,
            "idle_p50_us": quantile(idle.seconds, 0.5) * 1e6,
            "busy_p50_us": quantile(busy.seconds, 0.5) * 1e6,
        }
        return Sample({"growth": figures["busy_us"] / figures["idle_us"], **figures}, twice=idle.twice + busy.twice)


async def compute(layer: Any, party: Party, stretches: int) -> None:
    """Wait for messages, and in the last stretch compute in a thread besides, which leaves the loop little."""
    others = os.sched_getaffinity(os.getppid()) - os.sched_getaffinity(0)
    if others:
        os.sched_setaffinity(0, others)
    channel = await layer.new_channel()
    waiting = await listen(layer, channel)
    end = threading.Event()
    thread = threading.Thread(target=_burn, args=(end,), daemon=True)
    await party.meet()
    for stretch in range(stretches):
        if stretch == stretches - 1:
            thread.start()
        await party.meet()
    await party.meet()
    end.set()
    await asyncio.to_thread(thread.join)
    await layer.send(channel, message(HELLO))
    await waiting


def _burn(end: threading.Event) -> None:
    while not end.is_set():
        sum(range(10_000))
