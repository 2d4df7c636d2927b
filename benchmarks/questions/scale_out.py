"""What does a group message cost the servers, however many there are?"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.arena import Meeting, Party, Role
from benchmarks.backends import Backend, Used
from benchmarks.contestants import Contestant
from benchmarks.members import join_groups
from benchmarks.message import message
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample
from tests.support import namespaces

_CONTESTANTS = ("queued", "published", "channels_redis core", "channels_redis pubsub")
_REFERENCES = ("channels_redis core", "channels_redis pubsub")
_WARM_UP = 36
"""Messages of each sender before those that are measured: a loop's first calls travel on other connections."""
_PATIENCE = 5
"""Seconds after which a message that has not reached everybody is given up, and the run with it."""


class ScaleOut:
    """One sender, whose messages go one at a time to one group after another; each member is in all of them."""

    _GROUPS = 12
    """So many that each of a few servers has some."""

    columns = (
        Column("one_us", "1 host, us"),
        Column("three_us", "3 hosts"),
        Column("six_us", "6 hosts"),
        Column("cluster_us", "cluster of 3"),
        Column("three", "3 hosts / 1", ".2f"),
        Column("six", "6 hosts / 3", ".2f"),
        Column("cluster", "cluster / 1", ".2f"),
    )
    references = _REFERENCES
    contestants = _CONTESTANTS

    def __init__(self, members: int, homes: int) -> None:
        self.key = f"scale_out_{members}" if homes == 2 else f"scale_out_{members}_in_{homes}"
        self.text = (
            f"What does a group_send cost the servers, however many there are? To {members} members in {homes} "
            "processes, one message at a time, to one group and then to the next: processor time of all servers "
            "together, with one host, three and six, and with a cluster of three nodes."
        )
        self._crowd = Crowd(senders=1, homes=homes, groups=[_names(self._GROUPS)] * (members // homes))

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        backends = {
            "one": means.backends.hosts(1),
            "three": means.backends.hosts(3),
            "six": means.backends.hosts(6),
        }
        if contestant.clusters:
            backends["cluster"] = means.backends.cluster(3)
        # More processes are more work for each message, and take longer for each turn.
        messages = means.scale.messages * 2 // self._crowd.homes
        costs = {key: self._crowd.measure(means, contestant, each, messages) for key, each in backends.items()}
        figures = {f"{key}_us": sum(cost.seconds) * 1e6 for key, cost in costs.items()}
        for key, reference in (("three", "one"), ("six", "three"), ("cluster", "one")):
            if key in costs:
                figures[key] = figures[f"{key}_us"] / figures[f"{reference}_us"]
        return Sample(figures, twice=sum(cost.twice for cost in costs.values()))


class Busiest:
    """Several senders, who take turns to send to many groups."""

    _GROUPS = 300
    """So many that each of three servers has about a third of them."""
    _SENDERS = 3
    _HOMES = 2

    key = "scale_out_busiest"
    columns = (
        Column("share", "busiest of 3 / 1 host", ".2f"),
        Column("one_us", "1 host, us"),
        Column("busiest_us", "busiest of 3"),
        Column("three_us", "3 together"),
    )
    references = _REFERENCES
    contestants = _CONTESTANTS
    text = (
        f"How much work has the busiest of three hosts, beside one alone? {_SENDERS} processes take turns to send to "
        f"{_GROUPS} groups, each of which has a member in each of {_HOMES} other processes, one message at a time: "
        "processor time for one message of all."
    )

    def __init__(self) -> None:
        self._crowd = Crowd(self._SENDERS, self._HOMES, groups=[[name] for name in _names(self._GROUPS)])

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        one, three = (
            self._crowd.measure(means, contestant, means.backends.hosts(hosts), means.scale.messages)
            for hosts in (1, 3)
        )
        figures = {
            "share": max(three.seconds) / sum(one.seconds),
            "one_us": sum(one.seconds) * 1e6,
            "busiest_us": max(three.seconds) * 1e6,
            "three_us": sum(three.seconds) * 1e6,
        }
        return Sample(figures, twice=one.twice + three.twice)


def _names(number: int) -> list[str]:
    return [f"scale.out.{index}" for index in range(number)]


@dataclass(frozen=True)
class Cost:
    """Of one run."""

    seconds: list[float]
    """That each server worked for one message."""
    twice: int


@dataclass(frozen=True)
class Crowd:
    """Who sends to whom."""

    senders: int
    homes: int
    """Processes with members."""
    groups: Sequence[Sequence[str]]
    """Of each member of a process. All processes have the same, and all groups equally many members."""
    machine: int | None = None
    """A process on the machine that the members live on; None: on that of the senders."""

    def measure(self, means: Means, contestant: Contestant, backend: Backend, messages: int) -> Cost:
        """One run, in which each message waits until all members have the one before."""
        warm_up = _WARM_UP * self.senders
        turns = warm_up + messages
        used: list[Used] = []

        def at_meeting(meeting: Meeting) -> None:
            if meeting.number in (warm_up, turns):
                used.append(backend.read())

        names = list(dict.fromkeys(itertools.chain(*self.groups)))
        reached = sum(map(len, self.groups)) // len(names)
        # To one group after the other: a server that had the message before is warm, however many others there are.
        targets = [names[turn % len(names)] for turn in range(warm_up)]
        targets += [names[turn * len(names) // messages] for turn in range(messages)]
        backend.empty()
        results = means.arena.run(
            contestant,
            [Role(send_in_turn, number=number, senders=self.senders, groups=targets) for number in range(self.senders)]
            + [
                Role(live_in_groups, groups=self.groups, reached=reached, turns=turns, machine=self.machine)
                for _ in range(self.homes)
            ],
            at_meeting=at_meeting,
            hosts=backend.hosts,
        )
        before, after = used
        return Cost(
            [seconds / messages for seconds in backend.worked(before, after)], twice=sum(results[self.senders :])
        )


async def send_in_turn(layer: Any, party: Party, number: int, senders: int, groups: Sequence[str]) -> None:
    """A message in each of this sender's turns; `groups` has the group of each turn."""
    await party.meet()
    for turn, group in enumerate(groups):
        if turn % senders == number:
            await layer.group_send(group, message(turn))
        await party.meet()


async def live_in_groups(
    layer: Any, party: Party, groups: Sequence[Sequence[str]], reached: int, turns: int, machine: int | None
) -> int:
    """Members, of whom as many as `reached` says get each message; how many messages came twice."""
    if machine is not None:
        namespaces.enter(machine, namespaces.MOUNTS)  # before this process has any thread
    missing = [reached] * turns
    twice = 0
    arrived = asyncio.Event()

    async def live(channel: str) -> None:
        nonlocal twice
        expected = 0
        while True:
            turn = (await layer.receive(channel))["number"]
            if turn < expected:
                twice += 1
                continue
            expected = turn + 1
            missing[turn] -= 1
            if missing[turn] == 0:
                arrived.set()

    async with join_groups(layer, groups, live):
        await party.meet()
        for turn in range(turns):
            async with asyncio.timeout(_PATIENCE):
                while missing[turn]:
                    arrived.clear()
                    await arrived.wait()
            await party.meet()
    return twice
