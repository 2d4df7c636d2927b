"""A waiter of a normal channel that does not come: another one gets its messages within 300 ms.

The slow ones wait first, so they are the ones to be rung. The reader notes how long each message was on its way.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import pytest

from tests.ipc.tools import check, flushed, layer_of
from tests.support.loops import LOOPS, LoopKind, run
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import at_rest, cancelled, receiving

LONGEST = 0.3
SLOW = 2
MESSAGES = SLOW + 8


def pauses(slow: int = 1) -> list[float]:
    """Between two messages. The first ones are each announced to a slow waiter, and nothing comes after them that could
    wake the reader. Then all slow ones have been rung: the rest come at once, while that ring still counts, when it is
    void, and when the process is suspected.
    """
    return [0.35] * slow + random.sample([0, 0, 0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3], MESSAGES - slow)


async def send_after_pauses(layer: Any, slow: int = 1) -> None:
    for pause in pauses(slow):
        await layer.send("work", {"sent": time.monotonic()})
        await asyncio.sleep(pause)  # how old a mark is when the next sender meets it is what is tested


async def wait_for_work(parent: Parent, prefix: str) -> None:
    """Waits, is busy when asked, and ends when asked; it takes nothing before that."""
    layer = layer_of(prefix)
    (waiting,) = await receiving(layer, "work")
    parent.ready()
    if await asyncio.to_thread(parent.receive) == "be busy":
        parent.ready()
        while not parent.has_news():  # holds its event loop
            pass
        waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def read(parent: Parent, prefix: str) -> list[tuple[float, float]]:
    """For each message, how long it was on its way, and by how much the reader's own loop was late meanwhile."""
    layer = layer_of(prefix)
    reading = asyncio.create_task(delays(layer))
    await at_rest(layer, "work")
    parent.ready()
    return await reading


async def delays(layer: Any) -> list[tuple[float, float]]:
    found = []
    late = 0.0

    async def watch() -> None:
        nonlocal late
        while True:
            begin = time.monotonic()
            await asyncio.sleep(0.01)  # measures by how much it is longer
            late = max(late, time.monotonic() - begin - 0.01)

    watching = asyncio.create_task(watch())
    for _ in range(MESSAGES):
        sent = (await layer.receive("work"))["sent"]
        found.append((time.monotonic() - sent, late))
        late = 0.0
    watching.cancel()
    return found


def judge(found: list[tuple[float, float]]) -> None:
    """What a busy machine took from the reader itself is not the fault of the slow one."""
    assert all(delay - late < LONGEST for delay, late in found), found


@pytest.mark.parametrize(
    "slow",
    ["stopped", pytest.param("busy", marks=pytest.mark.thorough), pytest.param("dead", marks=pytest.mark.thorough)],
)
def test_slow_process(prefix: str, spawn: Spawn, slow: str) -> None:
    layer = layer_of(prefix)

    async def main() -> None:
        await layer.new_channel()
        slow_ones = []
        for _ in range(SLOW):
            slow_ones.append(spawn("tests.ipc.test_slow_waiters:wait_for_work", prefix))
            await asyncio.to_thread(slow_ones[-1].ready)
        reader = spawn("tests.ipc.test_slow_waiters:read", prefix)
        await asyncio.to_thread(reader.ready)
        for process in slow_ones:
            if slow == "stopped":
                process.pause()
            elif slow == "busy":
                process.send("be busy")
                await asyncio.to_thread(process.ready)
            else:
                process.kill()
        await send_after_pauses(layer, SLOW)
        judge(await asyncio.to_thread(reader.result))
        for process in slow_ones:
            if slow == "busy":
                process.send("end")
                await asyncio.to_thread(process.result)
            elif slow == "stopped":
                process.kill()

    run(main())
    with flushed(layer):
        check(layer)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("sender", ["same process", "another process"])
def test_slow_loop_of_the_readers_process(prefix: str, spawn: Spawn, loop: LoopKind, sender: str) -> None:
    """A thread's event loop waits first and is then blocked."""
    layer = layer_of(prefix)
    asleep, end = threading.Event(), threading.Event()

    async def wait_and_block() -> None:
        (waiting,) = await receiving(layer, "work")
        asleep.set()
        end.wait()  # holds the loop
        await cancelled(waiting)

    async def main() -> None:
        reading = asyncio.create_task(delays(layer))
        await at_rest(layer, "work")
        if sender == "same process":
            await send_after_pauses(layer)
        else:
            other = spawn("tests.ipc.test_slow_waiters:send_work", prefix)
            await asyncio.to_thread(other.result)
        judge(await reading)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        thread = threading.Thread(target=lambda: runner.run(wait_and_block()))
        thread.start()
        assert asleep.wait(5)
        try:
            run(main(), loop=loop)
        finally:
            end.set()
            thread.join(5)
    check(layer)


async def send_work(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)
    await send_after_pauses(layer)
