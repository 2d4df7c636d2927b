"""Coroutines that wait, oldest first."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.inbox import Waiter, WaitQueue, Waker
from hybrid_layer.loops import running
from tests.support.inboxes import implementation
from tests.support.loops import run
from tests.support.waiting import turns

__all__ = ["implementation"]


async def test_wakes_the_oldest_that_was_not_woken() -> None:
    loop = asyncio.get_running_loop()
    queue = WaitQueue()
    waiters = [queue.join(loop) for _ in range(3)]
    assert repr(waiters[0]) == "<Waiter waiting>"
    assert [queue.wake_next(Waker(running())) for _ in range(4)] == [*waiters, None]
    assert all(waiter.ready for waiter in waiters)
    waiters[1].rearm()
    assert not waiters[1].ready
    assert queue.wake_next(Waker(running())) is waiters[1]
    queue.leave(waiters[0])
    queue.leave(waiters[0])
    assert len(queue) == 2
    assert queue.is_first(waiters[1])


async def test_wakes_from_another_thread() -> None:
    queue = WaitQueue()
    waiter = queue.join(asyncio.get_running_loop())
    thread = threading.Thread(target=queue.wake_next, args=(Waker(None),))
    thread.start()
    async with asyncio.timeout(2):
        await waiter
    thread.join()
    assert waiter.woken


async def test_who_was_woken_from_another_thread_comes_before_who_is_woken_before_it_waits() -> None:
    """That one would continue at once, without a turn of the loop."""
    loop = asyncio.get_running_loop()
    queue = WaitQueue()
    order = []

    async def wait(number: int, wakes_itself: bool) -> None:
        waiter = queue.join(loop)
        if wakes_itself:
            queue.wake_next(Waker(running()))
        await waiter
        queue.leave(waiter)
        order.append(number)

    first = asyncio.create_task(wait(0, False))
    await turns()
    thread = threading.Thread(target=queue.wake_next, args=(Waker(None),))
    thread.start()
    thread.join()  # the loop does not see that before it has a turn
    await wait(1, True)
    await first
    assert order == [0, 1]


async def test_somebody_else_may_want_to_be_called_too() -> None:
    """A debugger, or a test that wraps what is awaited."""
    name: ContextVar[str] = ContextVar("name")

    async def wait(waiter: Waiter) -> None:
        await waiter

    waiter = Waiter(asyncio.get_running_loop())
    called = []
    name.set("mine")
    waiter.add_done_callback(lambda done: called.append((name.get(), done)))
    name.set("another")
    task = asyncio.create_task(wait(waiter))
    await turns()
    waiter.add_done_callback(lambda done: called.append((name.get(), done)))
    Waker(running()).wake(waiter)
    await task
    assert called == [("mine", waiter), ("another", waiter)]


async def test_wake_of_a_cancelled_waiter_is_harmless() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    waiter.cancel()
    assert Waker(running()).wake(waiter)
    with pytest.raises(asyncio.CancelledError):
        waiter.result()


async def test_loop_that_is_gone_is_passed_over() -> None:
    queue = WaitQueue()
    loop = asyncio.new_event_loop()
    gone = queue.join(loop)
    loop.close()
    assert not Waker(running()).wake(gone)
    gone.woken = False
    waiter = queue.join(asyncio.get_running_loop())
    assert len(queue) == 1
    assert queue.wake_next(Waker(running())) is waiter


class CountingLoop(asyncio.SelectorEventLoop):
    callbacks = 0

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        self.callbacks += 1
        return super().call_soon(*args, **kwargs)


def test_those_of_one_loop_go_on_in_one_callback() -> None:
    async def main(loop: CountingLoop) -> None:
        queue = WaitQueue()
        order = []

        async def wait(number: int) -> None:
            await queue.join(loop)
            order.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(10)]
        await turns()
        waker = Waker(running())
        loop.callbacks = 0
        while queue.wake_next(waker) is not None:
            pass
        assert loop.callbacks == 1
        await turns()
        assert order == list(range(10))
        await asyncio.gather(*tasks)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, CountingLoop)
        runner.run(main(loop))


async def test_who_is_woken_before_it_waits_does_not_wait() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    Waker(running()).wake(waiter)
    coroutine = waiter.__await__()
    with pytest.raises(StopIteration):
        next(coroutine)
    waiter.rearm()
    assert next(waiter.__await__()) is waiter


async def test_one_that_waits_again_is_not_resumed_by_an_old_wake() -> None:
    async def go_on(waiter: Waiter) -> None:
        await waiter

    waiter = Waiter(asyncio.get_running_loop())
    Waker(running()).wake(waiter)
    await waiter
    waiter.rearm()
    task = asyncio.create_task(go_on(waiter))
    await turns()
    await turns()
    assert not task.done()
    waiter.wake_later()
    assert waiter.woken
    assert not waiter.ready
    await task


@pytest.mark.parametrize("task_type", [asyncio.Task, asyncio.tasks._PyTask])  # type: ignore[attr-defined]
@pytest.mark.parametrize("when", ["waiting", "woken", "woken elsewhere"])
async def test_cancellation_reaches_the_coroutine_with_its_message(
    task_type: type[asyncio.Task[None]], when: str
) -> None:
    loop = asyncio.get_running_loop()
    waiter = Waiter(loop)
    seen = []

    async def wait() -> None:
        try:
            await waiter
        except asyncio.CancelledError as error:
            seen.append(error.args)
            raise

    task = task_type(wait(), loop=loop)
    await turns()
    if when != "waiting":
        Waker(loop if when == "woken" else None).wake(waiter)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [("enough",)]
    assert waiter.woken == (when != "waiting")


async def test_coroutine_goes_on_in_its_own_context() -> None:
    name: ContextVar[str] = ContextVar("name")
    waiter = Waiter(asyncio.get_running_loop())

    async def wait() -> str:
        name.set("mine")
        await waiter
        return name.get()

    task = asyncio.create_task(wait())
    await turns()
    name.set("another")
    Waker(running()).wake(waiter)
    assert await task == "mine"


def test_the_others_go_on_after_one_has_stopped_the_loop() -> None:
    loop = asyncio.new_event_loop()
    queue = WaitQueue()
    order = []

    async def wait(number: int) -> None:
        await queue.join(loop)
        order.append(number)
        if number == 1:
            raise KeyboardInterrupt

    async def wake() -> None:
        waker = Waker(running())
        while queue.wake_next(waker) is not None:
            pass
        await asyncio.Event().wait()

    tasks = [loop.create_task(wait(number)) for number in range(4)]
    loop.run_until_complete(turns())
    waking = loop.create_task(wake())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(waking)
    assert order == [0, 1]
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    assert order == [0, 1, 2, 3]
    waking.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waking)
    loop.close()


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_one_is_woken_although_a_signal_handler_raises_meanwhile(method: str) -> None:
    """Marked as woken, it would not be woken again; and marked as ready, not even cancelled."""

    class Interrupted(asyncio.SelectorEventLoop):
        is_interrupted = False

        def call_soon(self, *args: Any, **options: Any) -> asyncio.Handle:
            self.interrupt("call_soon")
            return super().call_soon(*args, **options)

        def call_soon_threadsafe(self, *args: Any, **options: Any) -> asyncio.Handle:
            self.interrupt("call_soon_threadsafe")
            return super().call_soon_threadsafe(*args, **options)

        def interrupt(self, where: str) -> None:
            if self.is_interrupted and where == method:
                self.is_interrupted = False
                raise TimeoutError("a soft time limit")

    async def main() -> None:
        async def wait() -> None:
            await queue.join(loop)

        waiting = loop.create_task(wait())
        await turns()
        loop.is_interrupted = True
        with pytest.raises(TimeoutError):
            queue.wake_next(Waker(loop if method == "call_soon" else None))
        assert waiting in (await asyncio.wait([waiting], timeout=5))[0]

    queue = WaitQueue()
    loop = Interrupted()
    loop.run_until_complete(main())
    loop.close()


@pytest.mark.once
@given(st.lists(st.tuples(st.sampled_from(["join", "leave", "wake", "rearm"]), st.integers(0, 9)), max_size=60))
def test_model(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue = WaitQueue()
        model: deque[Waiter] = deque()
        for step, number in steps:
            if step == "join":
                model.append(queue.join(loop))
            elif step == "wake":
                expected = next((waiter for waiter in model if not waiter.woken), None)
                assert queue.wake_next(Waker(running())) is expected
            elif model:
                waiter = model[number % len(model)]
                if step == "rearm":
                    waiter.rearm()
                else:
                    queue.leave(waiter)
                    model.remove(waiter)
            assert len(queue) == len(model)
            assert all(queue.is_first(waiter) == (waiter is model[0]) for waiter in model)

    run(main())


def test_one_that_the_collector_closes_while_another_is_looked_for() -> None:
    """In a loop that was closed without notice, so that the search continues behind it."""
    queue = WaitQueue()

    class Closing(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *args: object, **kwargs: object) -> asyncio.Handle:
            queue.leave(leaving)
            raise RuntimeError("Event loop is closed")

    loops = [Closing(), asyncio.new_event_loop()]
    _, leaving = (queue.join(loop) for loop in loops)

    async def main() -> None:
        waiter = queue.join(asyncio.get_running_loop())
        assert queue.wake_next(Waker(running())) in (leaving, waiter)

    run(main())
    for loop in loops:
        loop.close()
