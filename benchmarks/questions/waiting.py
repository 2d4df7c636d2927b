"""What does a process use that only waits?"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psutil

from benchmarks.arena import Party, Role
from benchmarks.contestants import SHARED_LAYERS, Contestant
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample

_SETTLING = 3.0
_SECONDS = 4.0
_TIMER = "empty timer"


class Waiting:
    """One process to which nobody sends, first as a web server, then as a worker."""

    key = "waiting"
    columns = (
        Column("web_percent", "% as a web server", ".2f"),
        Column("web_wakes", "wakes/s", ".1f"),
        Column("worker_percent", "% as a worker", ".2f"),
        Column("worker_wakes", "wakes/s", ".1f"),
    )
    references = (_TIMER,)
    contestants = (*SHARED_LAYERS, _TIMER)
    text = (
        "What does a process use that only waits? On a channel of its own, as a web server does, then on a normal one, "
        "as a worker does: percent of a processor. The empty timer is an event loop that does nothing but wake once a "
        "second."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        [figures] = means.arena.run(contestant, [Role(wait)])
        return Sample(dict(zip((column.key for column in self.columns), figures, strict=True)))


async def wait(layer: Any, party: Party) -> tuple[float, ...]:
    """Percent of a processor and wakes a second, with a consumer and then with a worker."""
    process = psutil.Process()
    figures: list[float] = []
    for channel in (await layer.new_channel(), "waiting"):
        waiting = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(_SETTLING)
        woken, used = process.num_ctx_switches().voluntary, time.process_time()
        await asyncio.sleep(_SECONDS)
        used, woken = time.process_time() - used, process.num_ctx_switches().voluntary - woken
        waiting.cancel()
        await asyncio.wait([waiting])
        figures += [100 * used / _SECONDS, woken / _SECONDS]
    return tuple(figures)
