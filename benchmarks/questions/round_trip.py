"""How long does a message take to another process and back?"""

from __future__ import annotations

from typing import Literal

from benchmarks.arena import Role
from benchmarks.contestants import REMOTE, Contestant
from benchmarks.pingpong import WARM_UP, Stretch, echo, ping
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample, quantile
from benchmarks.server import Reading

_MICROSECONDS = 1e6
_LOCAL = ("bare pipe", "IPC", "hybrid, no hosts", "hybrid, hosts")
_PLACES = {"together": "kept on one processor", "apart": "each kept on a processor of its own"}


class RoundTrip:
    """Two processes, one message under way at a time."""

    columns = (
        Column("p50_us", "p50 us"),
        Column("p99_us", "p99 us"),
        Column("cpu_us", "CPU us/message"),
        Column("server_cpu_us", "of the server"),
    )

    def __init__(self, key: str, channel: str | None, pin: Literal["together", "apart"] | None = None) -> None:
        """Without `channel`, on process-specific channels. Pinned, only what needs no server takes part."""
        self.key = key
        self._channel = channel
        self._pin = pin
        self.contestants = _LOCAL if pin else tuple(dict.fromkeys([*_LOCAL, *REMOTE]))
        self.references = ("bare pipe",) if pin else ("bare pipe", "channels_redis core")
        self.text = (
            "How long does a message take to another process and back, on "
            f"{'normal' if channel else 'process-specific'} channels? Two processes, "
            f"{_PLACES[pin] if pin else 'where the kernel puts them'}; one message under way at a time."
        )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        stretches = [WARM_UP, Stretch(means.scale.seconds)]
        readings: list[Reading] = []
        (_, trips), _ = means.arena.run(
            contestant,
            [
                Role(ping, channel=self._channel, stretches=stretches),
                Role(echo, channel=self._channel, stretches=stretches),
            ],
            at_meeting=lambda meeting: readings.append(means.observer.read(meeting)),
            pin=self._pin,
        )
        figures = {
            "p50_us": quantile(trips.seconds, 0.5) * _MICROSECONDS,
            "p99_us": quantile(trips.seconds, 0.99) * _MICROSECONDS,
        }
        _, _, start, end = readings
        figures["cpu_us"] = (end.clients_cpu - start.clients_cpu) / trips.messages * _MICROSECONDS
        if contestant.remote:
            figures["server_cpu_us"] = (end.server_cpu - start.server_cpu) / trips.messages * _MICROSECONDS
        return Sample(figures, twice=trips.twice)
