"""How many commands does a message cost the server?"""

from __future__ import annotations

from benchmarks.arena import Meeting, Role
from benchmarks.contestants import REMOTE, Contestant
from benchmarks.pingpong import WARM_UP, Stretch, echo, ping
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample

_MEASURED_FROM, _MEASURED_TO = 2, 3
"""Meetings of ping and echo: names, warm-up, the counted stretch, end."""


class Commands:
    """Round trips again, but counted and not timed."""

    columns = (
        Column("by_clients", "by clients", ".2f"),
        Column("by_scripts", "inside scripts", ".2f"),
    )
    references = ()
    contestants = REMOTE

    def __init__(self, key: str, channel: str | None) -> None:
        self.key = key
        self._channel = channel
        kind = "normal" if channel else "process-specific"
        self.text = (
            f"How many commands does one message cost the server, on {kind} channels? Round trips, counted by MONITOR: "
            "commands that clients sent, and those that their scripts ran inside the server."
        )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        stretches = [WARM_UP, Stretch(seconds=60, count=means.scale.messages // 2)]
        commands = means.observer.count_commands()

        def at_meeting(meeting: Meeting) -> None:
            if meeting.number == _MEASURED_FROM:
                commands.start()
            elif meeting.number == _MEASURED_TO:
                commands.stop()

        (_, trips), _ = means.arena.run(
            contestant,
            [
                Role(ping, channel=self._channel, stretches=stretches),
                Role(echo, channel=self._channel, stretches=stretches),
            ],
            at_meeting=at_meeting,
        )
        figures = {
            "by_clients": commands.by_clients / trips.messages,
            "by_scripts": commands.by_scripts / trips.messages,
        }
        return Sample(figures, twice=trips.twice)
