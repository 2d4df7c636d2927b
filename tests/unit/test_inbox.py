"""The inbox: which consumer is served when, what is forgotten; no cancelled or abandoned consumer costs another one."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.inbox import Inbox
from hybrid_layer.loops import leave_pending
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import Statistics
from tests.support.inboxes import Nothing, implementation, later, take
from tests.support.loops import counted_turns, run
from tests.support.probe import sweep_inbox_at
from tests.support.waiting import cancelled, turns

__all__ = ["implementation"]


def inbox(capacity: int = 10) -> Inbox:
    return Inbox(Policy(LayerOptions(capacity=capacity)), Statistics())


nothing = Nothing()


@pytest.mark.parametrize("in_vain", [False, True])
async def test_oldest_waiter_is_served_first(in_vain: bool) -> None:
    """Also among waiters that were woken for messages that are gone when they look."""
    box = inbox()
    order: list[int] = []

    async def read(n: int) -> None:
        await box.receive("p!1", nothing, asyncio.get_running_loop())
        order.append(n)

    tasks = [asyncio.create_task(read(n)) for n in range(5)]
    await turns()
    if in_vain:
        for _ in tasks:
            box.deliver(["p!1"], b"x", later())
        box.clear()
        await turns()
    for _ in tasks:
        box.deliver(["p!1"], b"x", later())
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("late", [False, True])
async def test_cancelled_waiter_passes_its_message_on(late: bool) -> None:
    """Cancelled before its message comes, or between the wake and its next step."""
    box = inbox()
    first = asyncio.create_task(box.receive("p!1", nothing, asyncio.get_running_loop()))
    second = asyncio.create_task(box.receive("p!1", nothing, asyncio.get_running_loop()))
    await turns()
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


def test_slow_consumer_costs_only_itself() -> None:
    statistics = Statistics()
    box = Inbox(Policy(LayerOptions(capacity=3)), statistics)
    for n in range(10):
        box.deliver(["p!slow"], str(n).encode(), later())
    box.deliver(["p!other"], b"other", later())
    assert [take(box, "p!slow") for _ in range(4)] == [b"7", b"8", b"9", None]
    assert take(box, "p!other") == b"other"
    assert statistics.as_dict()["slow"] == 7


def test_whole_part_takes_the_oldest() -> None:
    box = inbox()
    for name in ("p!2", "p!1", "q!1", "p!2"):
        box.deliver([name], name.encode(), later())
    assert [take(box, "p!") for _ in range(4)] == [b"p!2", b"p!1", b"p!2", None]
    assert take(box, "q!1") == b"q!1"


@pytest.mark.parametrize("name", ["p!1", "p!"])
def test_only_messages_of_the_current_generations_are_received(name: str) -> None:
    """There is one generation for each server."""
    generations = {1, 2}
    box = Inbox(Policy(LayerOptions()), Statistics(), lambda: generations)
    for generation in (1, 2, 1):
        box.deliver(["p!1"], b"before %d" % generation, later(), generation)
    generations.remove(1)
    generations.add(3)
    box.deliver(["p!1"], b"after", later(), 3)
    assert [take(box, name) for _ in range(3)] == [b"before 2", b"after", None]


@pytest.mark.parametrize("name", ["p!1", "p!"])
def test_message_stays_if_a_signal_handler_raises_before_it_is_taken(name: str) -> None:
    is_interrupted = True

    def generations() -> tuple[int]:
        if is_interrupted:
            raise TimeoutError("a soft time limit")
        return (0,)

    box = Inbox(Policy(LayerOptions()), Statistics(), generations)
    box.deliver(["p!1"], b"one", later())
    with pytest.raises(TimeoutError):
        take(box, name)
    is_interrupted = False
    assert take(box, name) == b"one"


async def test_busy_channel_gives_the_loop_its_turns() -> None:
    box = inbox(capacity=10_000)
    for _ in range(5000):
        box.deliver(["p!1"], b"x", later())
    async with counted_turns() as turns:
        for _ in range(5000):
            await box.receive("p!1", nothing, asyncio.get_running_loop())
    assert turns.number > 100


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
    """Without notice: the waiter there never leaves by itself."""
    loop = asyncio.new_event_loop()
    receiving = box.receive(name, nothing, loop)
    waiting = loop.create_task(receiving)
    loop.run_until_complete(turns())
    yield loop
    leave_pending(waiting)
    receiving.close()


def test_reader_of_a_closed_loop_is_passed_over() -> None:
    async def main() -> None:
        task = asyncio.create_task(box.receive("p!1", nothing, asyncio.get_running_loop()))
        await turns()
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
        await turns()
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
        assert list(box.contents()) == ["p!1"]
        loop.close()
        box.sweep()
        assert not box.contents()
        assert not box.is_awaited(loop)


async def test_channels_that_nobody_uses_any_more_are_forgotten() -> None:
    """Also where no message comes: the consumer that opens another one does it."""
    box = inbox()
    sweep_inbox_at(box, math.inf)
    for n in range(1000):
        reading = asyncio.create_task(box.receive(f"p!{n}", nothing, asyncio.get_running_loop()))
        await turns()
        if n % 2:
            box.deliver([f"p!{n}"], b"x", later())
            await reading
        else:
            await cancelled(reading)
    sweep_inbox_at(box, 0)
    reading = asyncio.create_task(box.receive("p!new", nothing, asyncio.get_running_loop()))
    await turns()
    assert list(box.contents()) == ["p!new"]
    reading.cancel()


def test_sweep_frees_what_expired_unread() -> None:
    statistics = Statistics()
    box = Inbox(Policy(LayerOptions()), statistics)
    box.deliver(["p!1", "p!2"], b"x", time.monotonic() - 1)
    box.sweep()
    assert not box.contents()
    assert statistics.as_dict()["expired"] == 2


async def test_channel_is_kept_when_the_collector_closes_its_last_reader() -> None:
    """An abandoned receive() is closed at any allocation, also at one that another receive() on its channel makes."""
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
    await turns()
    loop = asyncio.get_running_loop()
    assert box.unserved_loop(loop) is loop
    box.deliver(["p!1"], b"x", later())
    assert await asyncio.wait_for(reading, 1) == b"x"
    assert has_collected
    other.close()


class Collecting(Statistics):
    """Closes a coroutine whenever something is counted, as the collector may at any allocation."""

    def __init__(self, abandoned: list[Coroutine[Any, Any, bytes]]) -> None:
        super().__init__()
        self.abandoned = abandoned

    def count(self, key: str, n: int = 1) -> None:
        if self.abandoned:
            self.abandoned.pop().close()
        super().count(key, n)


async def test_readers_that_the_collector_closes_during_a_sweep() -> None:
    abandoned: list[Coroutine[Any, Any, bytes]] = []
    box = Inbox(Policy(LayerOptions()), Collecting(abandoned))
    for n in range(10):
        if n % 2:
            abandoned.append(box.receive(f"p!{n}", nothing, asyncio.get_running_loop()))
            abandoned[-1].send(None)
        else:
            box.deliver([f"p!{n}"], b"old", time.monotonic() - 1)
    sweep_inbox_at(box, 0)
    box.deliver(["p!1", "p!new", "p!9"], b"x", later())
    assert not abandoned
    assert [take(box, f"p!{name}") for name in (1, "new", 9)] == [b"x"] * 3
