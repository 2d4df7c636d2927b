"""The inbox against a model: nothing lost, nothing twice, in order, and no consumer waits beside a message."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hybrid_layer import interpreted
from hybrid_layer.configuration import LayerOptions
from hybrid_layer.inbox import Inbox
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import Statistics
from tests.support.inboxes import IMPLEMENTATIONS, Nothing
from tests.support.waiting import turns

NAMES = ["p!1", "p!2", "p!3"]
NAME = st.sampled_from(NAMES)
ANY_NAME = st.sampled_from([*NAMES, "p!"])
CAPACITY = 4


class Source:
    """The source of the inbox: delivers only while a waiter is unserved, as both halves do."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.waiting: deque[tuple[list[str], bytes, float]] = deque()
        self.is_armed = False
        self.epoch = 0

    def push(self, names: list[str], payload: bytes, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting.append((names, payload, deadline))
        if self.is_armed:
            self.is_armed = False
            loop.call_soon(self.take_in, loop)

    def take_in(self, loop: asyncio.AbstractEventLoop) -> None:
        while self.inbox.unserved_loop(loop) is loop:
            if not self.waiting:
                self.is_armed = True
                return
            self.inbox.deliver(*self.waiting.popleft(), self.epoch)

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        self.take_in(loop)

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        pass


class InboxMachine(RuleBasedStateMachine):
    implementation: Any = interpreted

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.statistics = Statistics()
        self.inbox = self.implementation.Inbox(
            Policy(LayerOptions(capacity=CAPACITY)), self.statistics, lambda: (self.source.epoch,)
        )
        self.source = Source(self.inbox)
        self.tasks: list[tuple[str, asyncio.Task[None]]] = []
        self.abandoned: list[Coroutine[Any, Any, bytes]] = []
        """Each waits, in no task: what comes for it stays until it is closed or collected."""
        self.received: list[tuple[str, int]] = []
        self.number = 0
        self.expected = 0
        """Messages, once for each of their channels, that can still be received or were."""

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.abandoned.clear()
            for _, task in self.tasks:
                task.cancel()
            self.idle()
            self.loop.close()

    def idle(self) -> None:
        self.loop.run_until_complete(turns(30))

    async def read(self, name: str) -> None:
        payload = await self.inbox.receive(name, self.source, self.loop)
        self.received.append((name, int(payload)))

    @rule(names=st.lists(NAME, min_size=1, max_size=3, unique=True), lives=st.booleans(), times=st.integers(1, 6))
    def push(self, names: list[str], lives: bool, times: int) -> None:
        for _ in range(times):
            self.number += 1
            deadline = time.monotonic() + (1000 if lives else -1)
            self.source.push(names, str(self.number).encode(), deadline, self.loop)
            self.expected += len(names)

    @rule(name=ANY_NAME, times=st.integers(1, 3))
    def receive(self, name: str, times: int) -> None:
        for _ in range(times):
            self.tasks.append((name, self.loop.create_task(self.read(name))))

    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        self.tasks[which % len(self.tasks)][1].cancel()

    @rule(name=ANY_NAME, in_closed_loop=st.booleans())
    def abandon(self, name: str, in_closed_loop: bool) -> None:
        loop = asyncio.new_event_loop() if in_closed_loop else self.loop
        source = Nothing() if in_closed_loop else self.source
        receiving = self.inbox.receive(name, source, loop)
        try:
            receiving.send(None)
        except StopIteration as end:
            self.received.append((name, int(end.value)))
            receiving.close()
        except RuntimeError:
            pass
        else:
            self.abandoned.append(receiving)
        if in_closed_loop:
            loop.run_until_complete(turns())
            loop.close()

    @precondition(lambda self: self.abandoned)
    @rule(which=st.integers(0, 100), how=st.sampled_from(["close", "throw", "forget", "collect"]))
    def give_up(self, which: int, how: str) -> None:
        receiving = self.abandoned.pop(which % len(self.abandoned))
        if how == "close":
            receiving.close()
        elif how == "throw":
            try:
                receiving.throw(asyncio.CancelledError())
            except asyncio.CancelledError:
                pass
        elif how == "collect":
            cycle: list[Any] = [receiving]
            cycle.append(cycle)
            del cycle, receiving
            gc.collect()

    @rule(steps=st.integers(1, 3))
    def go_on(self, steps: int) -> None:
        self.loop.run_until_complete(turns(steps))

    @rule()
    def flush(self) -> None:
        self.idle()
        self.source.epoch += 1
        self.source.waiting.clear()
        self.inbox.clear()
        self.expected = len(self.received) + self.dropped()

    def dropped(self) -> int:
        counts = self.statistics.as_dict()
        return counts["slow"] + counts["expired"]

    @rule()
    def sweep(self) -> None:
        self.inbox.sweep()

    @rule()
    def settle(self) -> None:
        while self.abandoned:
            self.abandoned.pop().close()
        self.idle()
        self.tasks = [(name, task) for name, task in self.tasks if not task.done()]
        self.nobody_waits_beside_a_message()
        contents = self.inbox.contents()
        assert sum(waiters for _, waiters in contents.values()) == len(self.tasks)
        if self.tasks:
            assert self.inbox.unserved_loop(self.loop) is self.loop
            assert not self.source.waiting
            assert self.inbox.is_awaited(self.loop)
        else:
            assert self.inbox.unserved_loop(self.loop) is None
            assert not self.inbox.is_awaited(self.loop)
        # Nothing lost, nothing made up.
        buffered = sum(len(deadlines) for deadlines, _ in contents.values())
        unfetched = sum(len(names) for names, _, _ in self.source.waiting)
        assert len(self.received) + buffered + unfetched + self.dropped() == self.expected
        # The next sweep removes idle channels.
        self.inbox.sweep()
        if not self.tasks and not buffered:
            assert not self.inbox.contents()

    def nobody_waits_beside_a_message(self) -> None:
        now = time.monotonic()
        live = {
            name
            for name, (deadlines, _) in self.inbox.contents().items()
            if any(deadline > now for deadline in deadlines)
        }
        for name, _ in self.tasks:
            assert not live if name == "p!" else name not in live

    @invariant()
    def order(self) -> None:
        if not hasattr(self, "received"):
            return
        for name in NAMES:
            numbers = [number for where, number in self.received if where == name]
            assert numbers == sorted(set(numbers))

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "inbox"):
            assert all(len(deadlines) <= CAPACITY for deadlines, _ in self.inbox.contents().values())


class ExtensionMachine(InboxMachine):
    implementation = IMPLEMENTATIONS["extension"]


class InterpretedMachine(InboxMachine):
    implementation = IMPLEMENTATIONS["interpreted"]


TestExtension = ExtensionMachine.TestCase
TestInterpreted = InterpretedMachine.TestCase
TestExtension.settings = TestInterpreted.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
