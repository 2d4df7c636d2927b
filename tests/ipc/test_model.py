"""The real layer against a simple model: two event loops here and one in a second process do what hypothesis thinks of.

After each step everything that must arrive has arrived, and nothing else has.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from hybrid_layer.ipc import IPCChannelLayer
from tests.ipc.actors import BRIEF, ProcessActor, ThreadActor
from tests.ipc.tools import check, layer_of
from tests.support.processes import Spawn
from tests.support.waiting import block_until

OPTIONS: dict[str, Any] = {"channel_capacity": {"narrow": 2}}
NORMAL = ("wide", "narrow")
GROUPS = ("g", "h")
SECONDS = 20.0

actors = st.integers(0, 2)
groups = st.sampled_from(GROUPS)
picks = st.integers(0, 99)


class LayerMachine(RuleBasedStateMachine):
    """Messages are numbers. Actors 0 and 1 are loops that share their layer objects; 2 is the other process."""

    actors: ClassVar[list[ThreadActor | ProcessActor]]
    layer: ClassVar[IPCChannelLayer]

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.queues: dict[str, list[int]] = {name: [] for name in NORMAL}
        self.owners: dict[str, int] = {}
        self.members: dict[str, set[str]] = {group: set() for group in GROUPS}
        self.waiting: dict[int, tuple[str, int]] = {}
        """Number of the receive -> channel, actor."""
        self.full = 0
        self.full_at_begin = self.statistics()["full"]

    # What is done

    def do(self, actor: int, what: str, *args: Any) -> Any:
        return self.actors[actor].begin(what, *args)()

    def statistics(self) -> dict[str, int]:
        return self.do(0, "statistics")

    def next(self) -> int:
        self.number += 1
        return self.number

    def channel(self, pick: int) -> str:
        names = [*self.queues]
        return names[pick % len(names)]

    def has_room(self, channel: str) -> bool:
        return len(self.queues[channel]) < OPTIONS["channel_capacity"].get(channel, 100)

    def is_awaited(self, channel: str) -> bool:
        return any(name == channel for name, _ in self.waiting.values())

    @rule(actor=actors, pick=picks, times=st.integers(1, 3))
    def send(self, actor: int, pick: int, times: int) -> None:
        channel = self.channel(pick)
        for _ in range(times):
            n, fits = self.next(), self.has_room(channel)
            assert self.do(actor, "send", channel, n) == fits
            if fits:
                self.queues[channel].append(n)
            else:
                self.full += 1
            self.settle()

    @rule(actor=actors, pick=picks)
    def send_what_expires(self, actor: int, pick: int) -> None:
        channel = self.channel(pick)
        if not self.is_awaited(channel):
            fits = self.has_room(channel)
            assert self.do(actor, "send_brief", channel) == fits
            self.full += not fits

    @rule(actor=actors, pick=picks)
    def receive(self, actor: int, pick: int) -> None:
        channel = self.channel(pick)
        owner = self.owners.get(channel)
        if owner is not None:  # any loop of the process that has it
            actor = 2 if owner == 2 else actor % 2
        number = self.next()
        self.waiting[number] = (channel, actor)
        self.do(actor, "receive", number, channel)
        self.settle()

    # No preconditions in the next two: which one waits depends on which of two things that happen at once came first,
    # and hypothesis wants its choices to depend on nothing else.

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        if not self.waiting:
            return
        number = [*self.waiting][pick % len(self.waiting)]
        _, actor = self.waiting.pop(number)
        assert self.do(actor, "cancel", number) is None  # what had come would be here already
        self.settle()

    @rule(actor=actors, pick=picks)
    def send_while_cancelling(self, actor: int, pick: int) -> None:
        if not self.waiting:
            return
        number = [*self.waiting][pick % len(self.waiting)]
        channel, its_actor = self.waiting.pop(number)
        n = self.next()
        if actor == its_actor == 2:  # a second process does one thing after the other
            actor = 0
        sent = self.actors[actor].begin("send", channel, n)
        cancelled = self.actors[its_actor].begin("cancel", number)
        assert sent()
        if (got := cancelled()) is None:
            self.queues[channel].append(n)
        assert got in (None, n)
        self.settle()

    @precondition(lambda self: len(self.owners) < 4)
    @rule(actor=actors)
    def new_channel(self, actor: int) -> None:
        name = self.do(actor, "new_channel")
        assert name not in self.queues
        self.owners[name] = actor
        self.queues[name] = []

    @rule(actor=actors, group=groups, pick=picks, add=st.booleans())
    def membership(self, actor: int, group: str, pick: int, add: bool) -> None:
        channel = self.channel(pick)
        self.do(actor, "group_add" if add else "group_discard", group, channel)
        self.members[group] = self.members[group] | {channel} if add else self.members[group] - {channel}

    @rule(actor=actors, group=groups)
    def group_send(self, actor: int, group: str) -> None:
        n = self.next()
        self.do(actor, "group_send", group, n)
        for channel in self.members[group]:
            if self.has_room(channel):
                self.queues[channel].append(n)
            else:
                self.full += 1
        self.settle()

    @rule(actor=actors)
    def flush(self, actor: int) -> None:
        self.do(actor, "flush")
        for queue in self.queues.values():
            queue.clear()
        for members in self.members.values():
            members.clear()

    @rule(actor=actors)
    def close(self, actor: int) -> None:
        self.do(actor, "close")  # closes a doorbell, if no coroutine waits for it; everything works

    # What must come of it

    def settle(self) -> None:
        """Wait until each channel has given what it has to as many as wait there: the oldest messages, in any order."""
        expected = {}
        for channel, queue in self.queues.items():
            number = min(len(queue), sum(name == channel for name, _ in self.waiting.values()))
            if number:
                expected[channel] = sorted(queue[:number])
                del queue[:number]
        arrived: dict[str, list[int]] = {}

        def have_come() -> bool:
            for actor in {actor for _, actor in self.waiting.values()}:
                for number, n in self.do(actor, "arrived").items():
                    arrived.setdefault(self.waiting.pop(number)[0], []).append(n)
            return sum(map(len, arrived.values())) >= sum(map(len, expected.values()))

        block_until(have_come, f"{expected} comes", SECONDS)
        assert {channel: sorted(numbers) for channel, numbers in arrived.items()} == expected

    def teardown(self) -> None:
        for number, (_, actor) in list(self.waiting.items()):
            assert self.do(actor, "cancel", number) is None
        assert self.statistics()["full"] == self.full_at_begin + self.full
        # What is left is there, in order, and nothing beside it.
        self.waiting.clear()
        for channel in list(self.queues):
            while self.queues[channel]:
                self._take_one(channel)
        check(self.layer)
        self.do(0, "flush")

    def _take_one(self, channel: str) -> None:
        number, actor = self.next(), self.owners.get(channel, 2)
        self.waiting[number] = (channel, actor)
        self.do(actor, "receive", number, channel)
        self.settle()


@pytest.mark.once
@pytest.mark.timeout(300)
def test_layer_and_model(prefix: str, spawn: Spawn) -> None:
    layer, brief = layer_of(prefix, **OPTIONS), layer_of(prefix, **OPTIONS, expiry=BRIEF)
    LayerMachine.layer = layer
    LayerMachine.actors = [
        ThreadActor(layer, brief),
        ThreadActor(layer, brief),
        ProcessActor(spawn("tests.ipc.actors:act", prefix, OPTIONS)),
    ]
    profile = settings(max_examples=60, stateful_step_count=60, deadline=None, derandomize=True, database=None)
    try:
        run_state_machine_as_test(LayerMachine, settings=profile)
    finally:
        for actor in LayerMachine.actors:
            actor.end()
