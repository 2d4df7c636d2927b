"""A process that is stopped while it holds the segment's lock: no caller waits for longer than two seconds.

`stopper` takes the lock and stops itself there, so each of these tests begins with a lock that is really held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hybrid_layer.exceptions import SegmentBusy
from hybrid_layer.ipc import IPCChannelLayer
from tests.ipc.programs import Stopper
from tests.ipc.tools import alive, check, is_clean, layer_of, receive
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import at_rest, cancelled, receiving, until, wait_until

MakeStopper = Callable[[str], Stopper]

LONGEST = 2.0
"""Seconds that a call may cost."""
SLACK = 1.0
"""What a busy machine may add to it."""


class Gaps:
    """How long the event loop has gone without a turn, at most, while the block ran."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = 0.0

    async def __aenter__(self) -> Gaps:
        self._last = time.monotonic()
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._note()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.005)  # measures by how much it is longer
            self._note()

    def _note(self) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last)
        self._last = now


async def refused(call: Awaitable[Any], pid: int) -> float:
    """How long the call took to report that the process makes no progress."""
    begin = time.monotonic()
    with pytest.raises(SegmentBusy, match=rf"process {pid} \(stopper, stopped\).*continue or kill it"):
        await call
    return time.monotonic() - begin


CALLS: dict[str, Callable[[IPCChannelLayer, str], Awaitable[Any]]] = {
    "send": lambda layer, own: layer.send("a", {"n": 1}),
    "send to a process": lambda layer, own: layer.send(own, {"n": 1}),
    "large send": lambda layer, own: layer.send("a", {"n": "x" * 200_000}),
    "group_add": lambda layer, own: layer.group_add("group", own),
    "group_discard": lambda layer, own: layer.group_discard("group", own),
    "group_send": lambda layer, own: layer.group_send("group", {"n": 1}),
    "flush": lambda layer, own: layer.flush(),
    "new_channel": lambda layer, own: layer.new_channel("other"),
}


@pytest.mark.once
def test_each_call_ends_in_two_seconds(prefix: str, stopper: MakeStopper) -> None:
    """All at once, with a hundred more beside them; who receives sleeps on, and so do statistics and close()."""
    layer = layer_of(prefix, capacity=1000)

    async def main() -> None:
        own = await layer.new_channel()
        waiting = {name: asyncio.create_task(layer.receive(name)) for name in (own, *(f"w.{n}" for n in range(20)))}
        await at_rest(layer, *waiting)
        holder = stopper(prefix)
        holder.stop()
        calls = [*CALLS.values(), *[CALLS["send"]] * 100]
        async with Gaps() as gaps:
            times = await asyncio.gather(*(refused(call(layer, own), holder.pid) for call in calls))
        assert max(times) < LONGEST + SLACK, times
        assert min(times) > 1, times
        assert sorted(times)[len(times) // 2] < LONGEST + 0.2
        assert gaps.longest < 0.5, gaps.longest
        # As long as the same holder has it, further calls fail at their first try.
        async with Gaps() as gaps:
            times = [await refused(call(layer, own), holder.pid) for call in calls]
        assert max(times) < 0.2, times
        assert sum(times) < 0.5, times
        await bounded(layer.statistics(), 0.5)
        await bounded(layer.close(), 0.5)
        assert not any(task.done() for task in waiting.values())
        holder.go_on()
        for name, task in waiting.items():
            await layer.send(name, {"n": name})
            assert (await asyncio.wait_for(task, 5))["n"] == name
        await layer.group_add("group", own)
        await layer.group_send("group", {"n": "all goes on"})
        assert await receive(layer, own) == "all goes on"
        holder.leave()
        assert alive(layer) == 1

    run(main())
    assert check(layer)["messages"] == 0


async def bounded(call: Awaitable[Any], seconds: float) -> None:
    begin = time.monotonic()
    await call
    assert time.monotonic() - begin < seconds


def test_nobody_gets_an_error_if_it_goes_on_soon(prefix: str, stopper: MakeStopper) -> None:
    layer = layer_of(prefix)

    async def main() -> None:
        own = await layer.new_channel()
        holder = stopper(prefix)
        holder.stop()
        calls = [asyncio.ensure_future(call(layer, own)) for call in CALLS.values()]
        waiting = asyncio.create_task(layer.receive("b"))
        await until(time.monotonic() + 1)
        assert not any(call.done() for call in calls)
        holder.go_on()
        async with asyncio.timeout(5):
            await asyncio.gather(*calls)
            await layer.send("b", {"n": 2})
            assert (await waiting)["n"] == 2
        holder.leave()
        await layer.flush()

    run(main())
    check(layer)


def test_killed_in_the_lock_after_all_have_given_up(prefix: str, stopper: MakeStopper) -> None:
    layer = layer_of(prefix)

    async def main() -> None:
        (waiting,) = await receiving(layer, "b")
        holder = stopper(prefix)
        holder.stop()
        await refused(layer.send("a", {"n": 1}), holder.pid)
        holder.kill()
        begin = time.monotonic()
        await layer.send("b", {"n": 2})
        assert (await asyncio.wait_for(waiting, 2))["n"] == 2
        assert time.monotonic() - begin < 0.5

    run(main())
    check(layer)


async def test_stopped_twice(prefix: str, stopper: MakeStopper) -> None:
    """The second time is another wait, with a new limit."""
    layer = layer_of(prefix)
    await layer.new_channel()
    holder = stopper(prefix)
    holder.stop()
    await refused(layer.send("a", {"n": 1}), holder.pid)
    holder.go_on()
    holder.stop()
    assert await refused(layer.send("a", {"n": 1}), holder.pid) > 1
    holder.go_on()
    holder.leave()


def test_cancelled_while_waiting_for_the_lock(prefix: str, stopper: MakeStopper) -> None:
    """Promptly; a message whose send was cancelled is not sent later, and a receive loses nothing."""
    layer = layer_of(prefix)

    async def main() -> None:
        own = await layer.new_channel()
        holder = stopper(prefix)
        holder.stop()
        tasks = [asyncio.ensure_future(call(layer, own)) for call in CALLS.values()]
        tasks += [asyncio.create_task(layer.receive(name)) for name in ("a", own)]
        await until(time.monotonic() + 0.3)  # by then all have been refused the lock several times
        begin = time.monotonic()
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True)
        )
        assert time.monotonic() - begin < 0.5
        holder.go_on()
        holder.leave()
        await layer.send("a", {"n": "the only one"})
        await layer.send(own, {"n": "and here"})
        assert await receive(layer, "a") == "the only one"
        assert await receive(layer, own) == "and here"

    run(main())
    assert check(layer)["messages"] == 0


def test_loops_that_end_meanwhile_give_their_places_back(prefix: str, stopper: MakeStopper) -> None:
    """More of them than a process has places for."""
    layer = layer_of(prefix)
    run(layer.send("a", {"n": 1}))
    holder = stopper(prefix)
    loops = [asyncio.Runner() for _ in range(8)]

    async def wait_a_moment() -> None:
        (waiting,) = await receiving(layer, "b")
        await cancelled(waiting)

    for loop in loops:
        loop.run(wait_a_moment())
    holder.stop()
    begin = time.monotonic()
    for loop in loops:
        loop.close()
    assert time.monotonic() - begin < 1
    holder.go_on()
    holder.leave()

    async def main() -> None:
        waiting = asyncio.create_task(layer.receive("b"))
        await wait_until(lambda: probe(layer).wait_set.number >= 0, "the loop has a place", 2)
        begin = time.monotonic()
        await layer.send("b", {"n": 2})
        assert (await waiting)["n"] == 2
        assert time.monotonic() - begin < 0.2  # no place of a loop that is gone was rung instead
        assert await receive(layer, "a") == 1

    run(main())
    assert check(layer)["waiters"] == 0


# Other processes


async def begin_now(parent: Parent, prefix: str) -> tuple[list[float], float]:
    """Attaches while the lock is held, and tries again; then uses the segment when asked to."""
    layer = layer_of(prefix)
    holder = parent.receive()
    times = [0.0]
    async with Gaps() as gaps:
        firsts = (
            refused(call, holder) for call in (layer.send("a", {"n": 1}), layer.receive("b"), layer.new_channel())
        )
        times[0] = max(await asyncio.gather(*firsts))
        times.append(await refused(layer.send("a", {"n": 1}), holder))
    parent.ready()
    await asyncio.to_thread(parent.receive)
    await layer.send("a", {"n": "from the newcomer"})
    return times, gaps.longest


def test_newcomers_and_leavers(prefix: str, stopper: MakeStopper, spawn: Spawn) -> None:
    """A process that attaches is refused in time, one that ends ends; the next ones find all in order."""
    layer = layer_of(prefix)
    run(layer.send("kept", {"n": "kept"}))
    holder = stopper(prefix)
    newcomers = [spawn("tests.ipc.test_stopped:begin_now", prefix) for _ in range(3)]
    leaver = spawn("tests.ipc.test_stopped:end_now", prefix)
    leaver.ready()
    holder.stop()
    for newcomer in newcomers:
        newcomer.send(holder.pid)
    begin = time.monotonic()
    leaver.send("end")
    leaver.result()
    assert time.monotonic() - begin < LONGEST + 2 * SLACK  # an interpreter's end included
    for newcomer in newcomers:
        newcomer.ready()
    holder.go_on()
    holder.leave()
    for newcomer in newcomers:
        newcomer.send("go on")
    for newcomer in newcomers:
        (first, second), gap = newcomer.result()
        assert 1 < first < LONGEST + SLACK
        assert second < 1
        assert gap < 0.5
    assert run(receive(layer, "kept")) == "kept"
    for _ in newcomers:
        assert run(receive(layer, "a")) == "from the newcomer"
    assert alive(layer) == 1
    check(layer)


async def end_now(parent: Parent, prefix: str) -> None:
    """Waits when it is asked to end, so that its doorbell and its place have to be given back."""
    layer = layer_of(prefix)
    (waiting,) = await receiving(layer, "b")
    parent.ready()
    await asyncio.to_thread(parent.receive)
    await cancelled(waiting)


async def test_stopped_while_attaching(prefix: str, spawn: Spawn) -> None:
    """The error names the lock file, and the process that holds its lock."""
    layer = layer_of(prefix)
    holder = spawn("tests.ipc.test_stopped:hold_the_lock_file", prefix)
    holder.ready()
    holder.pause()
    async with Gaps() as gaps:
        begin = time.monotonic()
        with pytest.raises(SegmentBusy, match=rf"The lock file .* process {holder.pid} \(python.*, stopped\)"):
            await layer.send("a", {"n": 1})
        assert 1 < time.monotonic() - begin < LONGEST + SLACK
    assert gaps.longest < 0.5
    begin = time.monotonic()
    with pytest.raises(SegmentBusy):
        await layer.send("a", {"n": 1})
    assert time.monotonic() - begin < 0.3
    holder.resume()
    holder.send("give it back")
    await asyncio.to_thread(holder.result)
    await layer.send("a", {"n": 1})
    assert await receive(layer, "a") == 1


def hold_the_lock_file(parent: Parent, prefix: str) -> None:
    from hybrid_layer.ipc.lockfile import LockFile
    from tests.ipc.tools import directory_path

    lock_file = LockFile(directory_path(prefix))
    with lock_file.held():
        parent.ready()
        parent.receive()
    lock_file.close()


def test_leaving_while_somebody_is_stopped_attaching(prefix: str, spawn: Spawn) -> None:
    """The end of a process is not held up for longer than a call."""
    leaver = spawn("tests.ipc.test_stopped:end_now", prefix)
    leaver.ready()
    holder = spawn("tests.ipc.test_stopped:hold_the_lock_file", prefix)
    holder.ready()
    holder.pause()
    begin = time.monotonic()
    leaver.send("end")
    leaver.result()
    assert time.monotonic() - begin < LONGEST + 2 * SLACK
    holder.resume()
    holder.send("give it back")
    holder.result()
    layer = layer_of(prefix)
    run(layer.send("a", {"n": 1}))
    assert run(receive(layer, "a")) == 1
    assert alive(layer) == 1
    assert not is_clean(prefix)
