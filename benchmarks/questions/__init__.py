"""The questions, in the order in which they are asked."""

from __future__ import annotations

from benchmarks.questions.backlog import Backlog
from benchmarks.questions.base import Means, Question, Scale
from benchmarks.questions.commands import Commands
from benchmarks.questions.fan_out import FanOut
from benchmarks.questions.head import Head
from benchmarks.questions.idle import Idle
from benchmarks.questions.machines import Machines, Storm
from benchmarks.questions.memory import Memory
from benchmarks.questions.neighbour import Neighbour
from benchmarks.questions.one_way import OneWay
from benchmarks.questions.round_trip import RoundTrip
from benchmarks.questions.scale_out import Busiest, ScaleOut
from benchmarks.questions.sizes import Sizes
from benchmarks.questions.start_up import StartUp
from benchmarks.questions.sync_send import SyncSend
from benchmarks.questions.waiting import Waiting

__all__ = ["QUESTIONS", "QUICK", "Means", "Question", "Scale"]

QUESTIONS: tuple[Question, ...] = (
    RoundTrip("round_trip_normal", channel="round.trip"),
    RoundTrip("round_trip_together", channel="round.trip", pin="together"),
    RoundTrip("round_trip_apart", channel="round.trip", pin="apart"),
    RoundTrip("round_trip_specific", channel=None),
    OneWay("one_way_1", pairs=1),
    OneWay("one_way_2", pairs=2),
    OneWay("one_way_4", pairs=4),
    OneWay("senders_normal", tasks=8),
    OneWay("senders_specific", tasks=8, channel=None),
    SyncSend("sync_send_1", threads=1),
    SyncSend("sync_send_8", threads=8),
    *(FanOut(members) for members in (2, 10, 100, 1000, 10_000)),
    FanOut(8, homes=8),
    Backlog(),
    Head(),
    Idle(),
    Commands("commands_normal", channel="commands"),
    Commands("commands_specific", channel=None),
    Sizes(),
    Neighbour(),
    Memory(),
    Waiting(),
    StartUp(),
    # The last, as the servers that they start stay until the end.
    ScaleOut(10, homes=2),
    ScaleOut(40, homes=8),
    Busiest(),
    Machines(),
    Storm(),
)
QUICK = ("round_trip_normal", "round_trip_specific", "one_way_1", "sync_send_1", "fan_out_100", "fan_out_1000")
"""What `--quick` asks."""
