"""State per event loop, and the ways in which a loop ends."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.loops import LoopLocal
from tests.support.loops import LoopKind, run
from tests.support.probe import lock_of
from tests.support.waiting import turns


class States:
    """A LoopLocal that keeps a record of what it made and ended."""

    def __init__(self) -> None:
        self.made: list[object] = []
        self.ended: list[object] = []
        self.were_closed: list[bool] = []
        self.local: LoopLocal[object] = LoopLocal(self.make, self.end)
        self.loop_of: dict[object, asyncio.AbstractEventLoop] = {}

    def make(self, loop: asyncio.AbstractEventLoop) -> object:
        state = object()
        self.made.append(state)
        self.loop_of[state] = loop
        return state

    def end(self, state: object) -> None:
        self.ended.append(state)
        self.were_closed.append(self.loop_of[state].is_closed())

    async def get(self) -> object:
        return self.local.get()


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> LoopKind:
    kind: LoopKind = request.param
    return kind


def test_one_for_each_loop_until_it_ends(loop_kind: LoopKind) -> None:
    states = States()

    async def main() -> None:
        assert await states.get() is await states.get()
        assert await asyncio.create_task(states.get()) is states.made[-1]
        assert states.local.peek(asyncio.get_running_loop()) is states.made[-1]
        assert states.local.all() == [states.made[-1]]

    for number in range(1, 4):
        run(main(), loop=loop_kind)
        assert states.ended == states.made
        assert len(states.made) == number
    assert states.were_closed == [False] * 3
    assert states.local.all() == []


def test_sync_code() -> None:
    states = States()
    async_to_sync(states.get)()
    async_to_sync(states.get)()
    assert len(states.made) == 2
    assert states.ended == states.made


def test_outside_of_a_loop() -> None:
    with pytest.raises(RuntimeError):
        States().local.get()


def test_loop_closed_without_notice() -> None:
    """It is found when the next one shows up."""
    states = States()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(states.get())
    loop.close()
    assert states.ended == []
    run(states.get())
    assert states.ended == states.made
    assert states.were_closed == [True, False]


def test_dropped_and_made_again(loop_kind: LoopKind) -> None:
    states = States()

    async def main() -> None:
        first = await states.get()
        loop = asyncio.get_running_loop()
        states.local.drop(loop)
        assert states.ended == [first]
        assert states.local.peek(loop) is None
        states.local.drop(loop)
        assert states.ended == [first]
        assert await states.get() is not first

    run(main(), loop=loop_kind)
    assert states.ended == states.made
    assert len(states.made) == 2


def test_ended_once_although_the_garbage_collector_runs() -> None:
    states = States()

    async def main() -> None:
        await states.get()
        gc.collect()
        await turns()
        assert states.ended == []

    run(main())
    gc.collect()
    assert states.ended == states.made


def test_loops_of_many_threads() -> None:
    states = States()
    barrier = threading.Barrier(8)

    async def main() -> None:
        for _ in range(20):
            state = await states.get()
            await turns()
            assert await states.get() is state

    def work() -> None:
        barrier.wait(5)
        for _ in range(10):
            asyncio.run(main())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(states.made) == 80
    assert set(states.ended) == set(states.made)
    assert len(states.ended) == 80


async def test_state_that_cannot_be_made() -> None:
    def fail(loop: asyncio.AbstractEventLoop) -> object:
        raise OSError("no descriptors")

    local: LoopLocal[object] = LoopLocal(fail, lambda state: None)
    for _ in range(2):
        with pytest.raises(OSError, match="no descriptors"):
            local.get()
    assert local.all() == []


def test_asks_for_all_without_the_lock() -> None:
    """A forked child asks for its parent's, whose lock another thread may have held at the fork."""
    states = States()
    with lock_of(states.local):
        asking = threading.Thread(target=states.local.all, daemon=True)
        asking.start()
        asking.join(10)
        assert not asking.is_alive()
