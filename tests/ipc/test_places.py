"""A loop's place belongs to one attachment: with another segment, or after the end of the loop, no loop has it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest

from hybrid_layer.ipc import IPCChannelLayer, _core
from tests.ipc.tools import check, layer_of, remove_segment
from tests.support.probe import only_woken, probe
from tests.support.waiting import at_rest, cancelled, receiving

T = TypeVar("T")
NEVER = 100.0
"""Seconds: longer than a test may take."""


class LoopInThread:
    """An event loop that runs in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.begin(work).result(10)

    def end(self) -> None:
        async def cancel_all() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await cancelled(*others)
            await self._loop.shutdown_asyncgens()

        if self._thread.is_alive():
            self.run(cancel_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@pytest.fixture
def start_loop() -> Iterator[Callable[[], LoopInThread]]:
    made: list[LoopInThread] = []

    def start() -> LoopInThread:
        made.append(LoopInThread())
        return made[-1]

    yield start
    for each in made:
        each.end()


@pytest.fixture
def unaided(monkeypatch: pytest.MonkeyPatch) -> None:
    """No housekeeping finds a message."""
    only_woken(monkeypatch, NEVER)


def waiting(loop: LoopInThread, layer: IPCChannelLayer, channel: str) -> Future[dict[str, Any]]:
    """A receiver on the channel in `loop`, which sleeps."""
    future = loop.begin(layer.receive(channel))
    loop.run(at_rest(layer, channel))
    return future


def move(layer: IPCChannelLayer, prefix: str) -> None:
    """No loop has noticed it yet."""
    remove_segment(prefix)
    assert probe(layer).segment.recover_if_lost()


@pytest.mark.parametrize("how", ["of another segment", "closed", "none"])
def test_core_refuses_a_loop_that_has_no_place(prefix: str, how: str) -> None:
    layer, other = layer_of(prefix), layer_of(f"{prefix}.other")
    core = probe(layer).core
    asyncio.run(layer.new_channel())
    inbox = probe(layer).open_inboxes[0]
    loop = -1
    if how == "of another segment":
        loop = probe(other).core.open_loop()
    elif how == "closed":
        loop = core.open_loop()
        core.close_loop(loop)
    own = core.open_loop()
    assert loop == -1 or own % _core.LOOPS == loop % _core.LOOPS
    calls: list[Callable[[], object]] = [
        lambda: core.wait("a", loop),
        lambda: core.unwait("a", loop),
        lambda: core.collect(loop, True),
        lambda: core.repoll(loop),
        lambda: core.doorbell(loop),
        lambda: core.close_loop(loop),
    ]
    if how != "none":  # these two may be called without a place
        calls += [lambda: core.pop("a", loop), lambda: core.drain(inbox, loop)]
    for call in calls:
        with pytest.raises(_core.Stale):
            call()
    assert check(layer)["waiters"] == 0
    assert core.pop("a", own)[0] is None
    assert check(layer)["waiters"] == 1
    core.close_loop(own)


@pytest.mark.usefixtures("unaided")
def test_a_loop_receives_before_it_has_noticed_a_move(prefix: str, start_loop: Callable[[], LoopInThread]) -> None:
    """It must not wait with its old place, which another loop has in the new segment: that would get its wakeups."""
    layer = layer_of(prefix)
    loops = [start_loop() for _ in range(3)]
    for n, loop in enumerate(loops):
        waiting(loop, layer, f"idle.{n}")
    move(layer, prefix)
    late = waiting(loops[2], layer, "late")
    for n, loop in enumerate(loops[:2]):
        waiting(loop, layer, f"again.{n}")
    fourth = start_loop()
    waiting(fourth, layer, "new")
    sender = start_loop()
    for n in range(5):
        sender.run(layer.send("late", {"n": n}))
        assert late.result(5) == {"n": n}
        late = waiting(loops[2], layer, "late")
    check(layer)


@pytest.mark.usefixtures("unaided")
def test_a_loop_ends_before_it_has_noticed_a_move(prefix: str, start_loop: Callable[[], LoopInThread]) -> None:
    """What it gives back is its own, not the place of the loop that has the same number in the new segment."""
    layer = layer_of(prefix)
    first, second, sender = (start_loop() for _ in range(3))
    waiting(first, layer, "first")
    waiting(second, layer, "another")
    move(layer, prefix)
    awaited = waiting(second, layer, "second")
    first.end()
    for n in range(3):
        sender.run(layer.send("second", {"n": n}))
        assert awaited.result(5) == {"n": n}
        awaited = waiting(second, layer, "second")
    check(layer)


async def test_what_was_taken_in_before_a_move_is_received_after_it(prefix: str) -> None:
    """The new segment counts its flushes from the beginning."""
    layer = layer_of(prefix)
    for _ in range(3):
        await layer.flush()
    one, other = await layer.new_channel(), await layer.new_channel()
    (waits,) = await receiving(layer, one)
    await layer.send(other, {"n": 1})
    await layer.send(one, {"n": 2})
    assert await waits == {"n": 2}
    move(layer, prefix)
    async with asyncio.timeout(2):
        assert await layer.receive(other) == {"n": 1}
    # And a flush there still counts.
    (waits,) = await receiving(layer, one)
    await layer.send(other, {"n": 3})
    await layer.send(one, {"n": 4})
    assert await waits == {"n": 4}
    await layer.flush()
    await layer.send(other, {"n": 5})
    async with asyncio.timeout(2):
        assert await layer.receive(other) == {"n": 5}
