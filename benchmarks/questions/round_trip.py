"""How long does a message take to another process and back?"""

from __future__ import annotations

from benchmarks.arena import Role
from benchmarks.contestants import Contestant
from benchmarks.pingpong import WARM_UP, Stretch, echo, ping
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, quantile
from benchmarks.server import Reading

_MICROSECONDS = 1e6


class RoundTrip:
    """Two processes, one message under way at a time."""

    columns = (
        Column("p50_us", "p50 us"),
        Column("p99_us", "p99 us"),
        Column("server_cpu_us", "server CPU us per message"),
    )
    references = ("bare pipe", "channels_redis core")
    contestants = (
        "bare pipe",
        "IPC",
        "hybrid, no hosts",
        "hybrid, hosts",
        "bare EVALSHA/BLPOP",
        "queued",
        "channels_redis core",
        "channels_redis pubsub",
    )

    def __init__(self, key: str, channel: str | None) -> None:
        self.key = key
        self._channel = channel
        kind = "normal" if channel else "process-specific"
        self.text = (
            f"How long does a message take to another process and back, on {kind} channels? "
            "Two processes, one message under way at a time."
        )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        stretches = [WARM_UP, Stretch(means.scale.seconds)]
        readings: list[Reading] = []
        (_, trips), _ = means.arena.run(
            contestant,
            [Role(ping, channel=self._channel, stretches=stretches), Role(echo, channel=self._channel, stretches=stretches)],
            at_meeting=lambda number: readings.append(means.observer.read()),
        )
        figures = {
            "p50_us": quantile(trips.seconds, 0.5) * _MICROSECONDS,
            "p99_us": quantile(trips.seconds, 0.99) * _MICROSECONDS,
        }
        if contestant.remote:
            _, _, start, end = readings
            figures["server_cpu_us"] = (end.cpu_seconds - start.cpu_seconds) / trips.messages * _MICROSECONDS
        return Sample(figures, twice=trips.twice)
