"""Coroutines that wait, oldest first."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.loops import running
from hybrid_layer.waiters import Waiter, WaitQueue
from tests.loops import run


def test_wakes_the_oldest_that_was_not_woken() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue = WaitQueue()
        waiters = [queue.join(loop) for _ in range(3)]
        assert [queue.wake_next(running()) for _ in range(4)] == [*waiters, None]
        assert all(waiter.future.done() for waiter in waiters)
        waiters[1].rearm()
        assert not waiters[1].future.done()
        assert queue.wake_next(running()) is waiters[1]
        queue.leave(waiters[0])
        queue.leave(waiters[0])
        assert len(queue) == 2
        assert queue.is_first(waiters[1])

    run(main())


def test_wakes_from_another_thread() -> None:
    async def main() -> None:
        queue = WaitQueue()
        waiter = queue.join(asyncio.get_running_loop())
        thread = threading.Thread(target=queue.wake_next, args=(None,))
        thread.start()
        await asyncio.wait_for(waiter.future, 2)
        thread.join()
        assert waiter.woken

    run(main())


def test_who_was_woken_from_another_thread_comes_before_who_was_woken_after_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue = WaitQueue()
        order = []

        async def wait(number: int) -> None:
            waiter = queue.join(loop)
            await waiter.future
            queue.leave(waiter)
            order.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(3)]
        await asyncio.sleep(0)
        queue.wake_next(running())
        await asyncio.sleep(0)
        thread = threading.Thread(target=queue.wake_next, args=(None,))
        thread.start()
        thread.join()  # the loop does not see that before it has a turn
        queue.wake_next(running())
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2]

    run(main())


def test_wake_of_a_cancelled_waiter_is_harmless() -> None:
    async def main() -> None:
        waiter = Waiter(asyncio.get_running_loop())
        waiter.future.cancel()
        assert waiter.wake(running())
        assert waiter.future.cancelled()

    run(main())


def test_loop_that_is_gone_is_passed_over() -> None:
    queue = WaitQueue()
    loop = asyncio.new_event_loop()
    gone = queue.join(loop)
    loop.close()

    async def main() -> None:
        assert not gone.wake(running())
        gone.woken = False
        waiter = queue.join(asyncio.get_running_loop())
        assert len(queue) == 1
        assert queue.wake_next(running()) is waiter

    run(main())


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
                assert queue.wake_next(running()) is expected
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
    """In a loop that was closed without notice, so that the search goes on behind it."""
    queue = WaitQueue()
    loops = [asyncio.new_event_loop() for _ in range(2)]
    closed, leaving = (queue.join(loop) for loop in loops)

    class Closing(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *args: object, **kwargs: object) -> asyncio.Handle:
            queue.leave(leaving)
            raise RuntimeError("Event loop is closed")

    other = Closing()
    closed.loop = other

    async def main() -> None:
        waiter = queue.join(asyncio.get_running_loop())
        assert queue.wake_next(running()) in (leaving, waiter)

    run(main())
    for loop in (*loops, other):
        loop.close()
