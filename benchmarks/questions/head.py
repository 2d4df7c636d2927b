"""Does it cost more to send when the oldest waiting message is large?"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.arena import Party, Role
from benchmarks.contestants import Contestant
from benchmarks.message import message
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, quantile

_LARGE = 1024 * 1024
_SENDS = 1000
_WARM_UP = 50


class Head:
    """Sends to two channels in turn that nobody reads: one with a large message at its head, one with a small one."""

    key = "head"
    columns = (
        Column("growth", "large / small", ".2f"),
        Column("small_us", "us behind a small one"),
        Column("large_us", "us behind a large one"),
    )
    references = ()
    contestants = ("IPC", "hybrid, hosts", "queued", "published", "channels_redis core")
    text = (
        "Does it cost more to send when the oldest waiting message is large? A process sends to two normal channels in "
        "turn, behind a message of 1 MiB and behind a small one; medians of a call. Then it reads them empty."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        [(small, large, lost)] = means.arena.run(contestant, [Role(send_behind, count=min(_SENDS, means.scale.many))])
        return Sample({"growth": large / small, "small_us": small * 1e6, "large_us": large * 1e6}, lost=lost)


async def send_behind(layer: Any, party: Party, count: int) -> tuple[float, float, int]:
    """The median behind the small and behind the large message, in seconds, and how many messages did not come back."""
    heads = {"head.small": message(0), "head.large": {**message(0), "text": "x" * _LARGE}}
    times: dict[str, list[float]] = {channel: [] for channel in heads}
    for channel, head in heads.items():
        await layer.send(channel, head)
    for number in range(1, count + 1):
        for channel in heads:
            news = message(number)
            began = time.perf_counter()
            await layer.send(channel, news)
            times[channel].append(time.perf_counter() - began)
    lost = 0
    for channel in heads:
        for number in range(count + 1):
            lost += (await layer.receive(channel))["number"] != number
    small, large = (quantile(times[channel][_WARM_UP:], 0.5) for channel in heads)
    return small, large, lost
