"""The inbox against a model: nothing lost, nothing twice, in order, and nobody waits beside a message."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hybrid_layer.inbox import Inbox
from hybrid_layer.loops import leave_pending
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import Statistics
from tests.loops import counted_turns, run

NAMES = ["p!1", "p!2", "p!3"]
NAME = st.sampled_from(NAMES)
CAPACITY = 4


class Source:
    """What the inbox fetches from: hands over only while somebody is unserved, as both halves do."""

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

    def relax(self, loop: asyncio.AbstractEventLoop) -> None:
        pass


class InboxMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.statistics = Statistics()
        self.inbox = Inbox(Policy(capacity=CAPACITY), self.statistics, epoch=lambda: self.source.epoch)
        self.source = Source(self.inbox)
        self.tasks: list[asyncio.Task[None]] = []
        self.received: list[tuple[str, int]] = []
        self.number = 0
        self.expected = 0
        """Messages, once for each of their channels, that can still be received or were."""

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for task in self.tasks:
                task.cancel()
            self.idle()
            self.loop.close()

    def idle(self) -> None:
        for _ in range(30):
            self.loop.run_until_complete(asyncio.sleep(0))

    def payload(self) -> bytes:
        self.number += 1
        return str(self.number).encode()

    async def read(self, name: str) -> None:
        payload = await self.inbox.receive(name, self.source, self.loop)
        self.received.append((name, int(payload)))

    @rule(names=st.lists(NAME, min_size=1, max_size=3, unique=True), lives=st.booleans(), times=st.integers(1, 6))
    def push(self, names: list[str], lives: bool, times: int) -> None:
        for _ in range(times):
            deadline = time.monotonic() + (1000 if lives else -1)
            self.source.push(names, self.payload(), deadline, self.loop)
            self.expected += len(names)

    @rule(name=NAME, times=st.integers(1, 3))
    def receive(self, name: str, times: int) -> None:
        for _ in range(times):
            self.tasks.append(self.loop.create_task(self.read(name)))

    @rule()
    def receive_any(self) -> None:
        self.tasks.append(self.loop.create_task(self.read("p!")))

    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        self.tasks[which % len(self.tasks)].cancel()

    @rule(steps=st.integers(1, 3))
    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.loop.run_until_complete(asyncio.sleep(0))

    @rule()
    def flush(self) -> None:
        self.idle()
        self.source.epoch += 1
        self.source.waiting.clear()
        self.inbox.clear()
        self.forget()

    @rule()
    def sweep(self) -> None:
        self.inbox.sweep()

    def forget(self) -> None:
        self.expected = len(self.received)
        self.statistics = self.inbox._statistics = Statistics()

    @rule()
    def settle(self) -> None:
        self.idle()
        self.tasks = [task for task in self.tasks if not task.done()]
        # Nobody waits beside a message.
        counts = self.statistics.as_dict()
        buffered = sum(len(channel.messages) for channel in self.inbox._channels.values())
        for name in NAMES:
            channel = self.inbox._channels.get(name)
            if channel is not None:
                now = time.monotonic()
                live = [message for message in channel.messages if message.deadline > now]
                assert not (live and channel.waiters)
                whole = self.inbox._channels.get("p!")
                assert not (live and whole is not None and whole.waiters)
        if self.tasks:
            assert self.inbox.unserved_loop(self.loop) is self.loop
            assert not self.source.waiting
            assert self.inbox.is_awaited(self.loop)
        else:
            assert self.inbox.unserved_loop(self.loop) is None
            assert not self.inbox.is_awaited(self.loop)
            assert all(counts.waiting == counts.unserved == 0 for counts in self.inbox._loops.values())
        # Nothing lost, nothing made up.
        unfetched = sum(len(names) for names, _, _ in self.source.waiting)
        assert len(self.received) + buffered + unfetched + counts["slow"] + counts["expired"] == self.expected
        # What is idle goes with the next sweep.
        self.inbox.sweep()
        if not self.tasks and not buffered:
            assert not self.inbox._channels

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
            assert all(len(channel.messages) <= CAPACITY for channel in self.inbox._channels.values())


TestInbox = InboxMachine.TestCase
TestInbox.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def take(box: Inbox, name: str) -> bytes | None:
    return box._take(name, box._channels.get(name) or box._add_channel(name))


def inbox(capacity: int = 10) -> Inbox:
    return Inbox(Policy(capacity=capacity), Statistics())


def later() -> float:
    return time.monotonic() + 100


class Nothing:
    def __init__(self) -> None:
        self.relaxed = 0

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def relax(self, loop: asyncio.AbstractEventLoop) -> None:
        self.relaxed += 1


nothing = Nothing()


@pytest.mark.parametrize("in_vain", [False, True])
def test_oldest_waiter_is_served_first(in_vain: bool) -> None:
    """Also among those who were woken for messages that are gone when they look."""

    async def main() -> None:
        box = inbox()
        order: list[int] = []

        async def read(n: int) -> None:
            await box.receive("p!1", nothing, asyncio.get_running_loop())
            order.append(n)

        tasks = [asyncio.create_task(read(n)) for n in range(5)]
        await asyncio.sleep(0)
        if in_vain:
            for _ in tasks:
                box.deliver(["p!1"], b"x", later())
            box.clear()
            await asyncio.sleep(0)
        for _ in tasks:
            box.deliver(["p!1"], b"x", later())
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_cancelled_waiter_passes_its_message_on(late: bool) -> None:
    """Cancelled before its message comes, or between the wake and its next step."""

    async def main() -> None:
        box = inbox()
        first = asyncio.create_task(box.receive("p!1", nothing, asyncio.get_running_loop()))
        second = asyncio.create_task(box.receive("p!1", nothing, asyncio.get_running_loop()))
        await asyncio.sleep(0)
        if late:
            box.deliver(["p!1"], b"x", later())
            first.cancel()
        else:
            first.cancel()
            box.deliver(["p!1"], b"x", later())
        relaxed = nothing.relaxed
        assert await asyncio.wait_for(second, 1) == b"x"
        assert first.cancelled()
        assert nothing.relaxed == relaxed + 1, "the source was not told"

    run(main())


def test_slow_consumer_costs_only_itself() -> None:
    box = inbox(capacity=3)
    for n in range(10):
        box.deliver(["p!slow"], str(n).encode(), later())
    box.deliver(["p!other"], b"other", later())
    assert [take(box, "p!slow") for _ in range(4)] == [b"7", b"8", b"9", None]
    assert take(box, "p!other") == b"other"
    assert box._statistics.as_dict()["slow"] == 7  # type: ignore[attr-defined]


def test_whole_part_takes_the_oldest() -> None:
    box = inbox()
    for name in ("p!2", "p!1", "q!1", "p!2"):
        box.deliver([name], name.encode(), later())
    assert [take(box, "p!") for _ in range(4)] == [b"p!2", b"p!1", b"p!2", None]
    assert take(box, "q!1") == b"q!1"


def test_older_epochs_are_discarded() -> None:
    epoch = 1
    box = Inbox(Policy(), Statistics(), epoch=lambda: epoch)
    box.deliver(["p!1"], b"before", later(), 1)
    epoch = 2
    box.deliver(["p!1"], b"after", later(), 2)
    assert take(box, "p!1") == b"after"


def test_busy_channel_gives_the_loop_its_turns() -> None:
    async def main() -> None:
        box = inbox(capacity=10_000)
        for _ in range(5000):
            box.deliver(["p!1"], b"x", later())
        async with counted_turns() as turns:
            for _ in range(5000):
                await box.receive("p!1", nothing, asyncio.get_running_loop())
        assert turns.number > 100

    run(main())


def test_readers_in_several_loops_and_deliveries_from_threads() -> None:
    box = inbox(capacity=100_000)
    got: list[bytes] = []
    number, readers = 3000, 3

    async def read() -> None:
        while (payload := await box.receive("p!1", nothing, asyncio.get_running_loop())) != b"end":
            got.append(payload)

    def deliver(payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            box.deliver(["p!1"], payload, later())

    reading = [threading.Thread(target=lambda: asyncio.run(asyncio.wait_for(read(), 20))) for _ in range(readers)]
    for thread in reading:
        thread.start()
    delivering = [
        threading.Thread(target=deliver, args=([f"{part}.{n}".encode() for n in range(number)],)) for part in range(2)
    ]
    for thread in delivering:
        thread.start()
    for thread in delivering:
        thread.join()
    deliver([b"end"] * readers)
    for thread in reading:
        thread.join(20)
    assert sorted(got) == sorted(f"{part}.{n}".encode() for part in range(2) for n in range(number))


@contextmanager
def awaited_in_a_loop_that_closes(box: Inbox, name: str) -> Iterator[asyncio.AbstractEventLoop]:
    """Without notice: the one who waits there never leaves by itself."""
    loop = asyncio.new_event_loop()
    receiving = box.receive(name, nothing, loop)
    waiting = loop.create_task(receiving)
    loop.run_until_complete(asyncio.sleep(0))
    yield loop
    leave_pending(waiting)
    receiving.close()


def test_reader_of_a_closed_loop_is_passed_over() -> None:
    async def main() -> None:
        task = asyncio.create_task(box.receive("p!1", nothing, asyncio.get_running_loop()))
        await asyncio.sleep(0)
        box.deliver(["p!1"], b"x", later())
        assert await asyncio.wait_for(task, 1) == b"x"

    box = inbox()
    with awaited_in_a_loop_that_closes(box, "p!1") as loop:
        loop.close()
        run(main())


def test_reader_of_a_closed_loop_hides_nobody() -> None:
    """Not the reader of the whole part, nor the one behind it, if it was woken before its loop was closed."""

    async def main(loop: asyncio.AbstractEventLoop, woken: bool) -> None:
        reading = box.receive("p!1" if woken else "p!", nothing, asyncio.get_running_loop())
        task = asyncio.create_task(reading)
        await asyncio.sleep(0)
        if not woken:
            loop.close()
        box.deliver(["p!1"], b"x", later())
        if woken:
            loop.close()
            box.sweep()
        assert await asyncio.wait_for(task, 1) == b"x"

    for woken in (False, True):
        box = inbox()
        with awaited_in_a_loop_that_closes(box, "p!1") as loop:
            run(main(loop, woken))


def test_channel_that_is_only_awaited_in_a_closed_loop_is_forgotten() -> None:
    box = inbox()
    with awaited_in_a_loop_that_closes(box, "p!1") as loop:
        box.sweep()
        assert list(box._channels) == ["p!1"]
        loop.close()
        box.sweep()
        assert not box._channels
        assert not box._loops


def test_channels_that_nobody_uses_any_more_are_forgotten() -> None:
    """Also where no message comes: who opens another one sees to it."""

    async def main() -> None:
        box = inbox()
        box._next_sweep = math.inf
        for n in range(1000):
            reading = asyncio.create_task(box.receive(f"p!{n}", nothing, asyncio.get_running_loop()))
            await asyncio.sleep(0)
            if n % 2:
                box.deliver([f"p!{n}"], b"x", later())
                await reading
            else:
                reading.cancel()
                await asyncio.wait([reading])
        box._next_sweep = 0
        reading = asyncio.create_task(box.receive("p!new", nothing, asyncio.get_running_loop()))
        await asyncio.sleep(0)
        assert list(box._channels) == ["p!new"]
        reading.cancel()

    run(main())


def test_sweep_frees_what_expired_unread() -> None:
    box = inbox()
    box.deliver(["p!1", "p!2"], b"x", time.monotonic() - 1)
    box.sweep()
    assert not box._channels
    assert box._statistics.as_dict()["expired"] == 2  # type: ignore[attr-defined]


def test_channel_is_kept_when_the_collector_closes_its_last_reader() -> None:
    """An abandoned receive() is closed at any allocation, also at one that another receive() on its channel makes."""

    async def main() -> None:
        box = inbox()

        has_collected = False

        class Collecting(asyncio.SelectorEventLoop):
            def is_closed(self) -> bool:
                nonlocal has_collected
                abandoned.close()
                has_collected = True
                return super().is_closed()

        other = Collecting()
        abandoned = box.receive("p!1", nothing, other)
        abandoned.send(None)
        reading = asyncio.create_task(box.receive("p!1", nothing, asyncio.get_running_loop()))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        assert box.unserved_loop(loop) is loop
        box.deliver(["p!1"], b"x", later())
        assert await asyncio.wait_for(reading, 1) == b"x"
        assert has_collected
        other.close()

    run(main())


class Collecting(Statistics):
    """Closes a coroutine whenever something is counted, as the collector may at any allocation."""

    def __init__(self, abandoned: list[Coroutine[Any, Any, bytes]]) -> None:
        super().__init__()
        self.abandoned = abandoned

    def count(self, key: str, n: int = 1) -> None:
        if self.abandoned:
            self.abandoned.pop().close()
        super().count(key, n)


def test_readers_that_the_collector_closes_during_a_sweep() -> None:
    async def main() -> None:
        abandoned: list[Coroutine[Any, Any, bytes]] = []
        box = Inbox(Policy(), Collecting(abandoned))
        for n in range(10):
            if n % 2:
                abandoned.append(box.receive(f"p!{n}", nothing, asyncio.get_running_loop()))
                abandoned[-1].send(None)
            else:
                box.deliver([f"p!{n}"], b"old", time.monotonic() - 1)
        box._next_sweep = 0
        box.deliver(["p!1", "p!new", "p!9"], b"x", later())
        assert not abandoned
        assert [take(box, f"p!{name}") for name in (1, "new", 9)] == [b"x"] * 3

    run(main())
