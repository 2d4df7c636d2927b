"""Event loops that wait: many at once, one after another, rung and unrung."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.ipc import _core
from tests.ipc.tools import check, doorbells, flushed, layer_of, others_fall_asleep, receive
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import block_until, cancelled, receiving, turns, wait_until


@pytest.mark.parametrize("kind", ["normal", "specific"])
def test_more_loops_than_can_be_rung(prefix: str, kind: str) -> None:
    """The further ones look for themselves; all get their messages."""
    layer = layer_of(prefix)
    number = _core.LOOPS + 4
    names: dict[int, str] = {}
    got: dict[int, list[Any]] = {n: [] for n in range(number)}
    ready = threading.Barrier(number + 1)

    async def wait(n: int) -> None:
        names[n] = await layer.new_channel() if kind == "specific" else f"loop.{n}"
        (waiting,) = await receiving(layer, names[n])
        await asyncio.to_thread(ready.wait, 10)
        for _ in range(3):
            async with asyncio.timeout(10):
                got[n].append((await waiting)["n"])
            waiting = asyncio.create_task(layer.receive(names[n]))
        await cancelled(waiting)

    def all_have(count: int) -> bool:
        return all(len(numbers) == count for numbers in got.values())

    threads = [threading.Thread(target=lambda n=n: asyncio.run(wait(n))) for n in range(number)]
    for thread in threads:
        thread.start()
    ready.wait(10)
    assert len(doorbells(prefix)) == _core.LOOPS
    for message in range(3):
        for n in range(number):
            async_to_sync(layer.send)(names[n], {"n": message})
        block_until(partial(all_have, message + 1), "each loop has its message")
    for thread in threads:
        thread.join(20)
    assert got == {n: [0, 1, 2] for n in range(number)}
    assert doorbells(prefix) == []
    check(layer)


def test_unrung_loop_takes_a_place_that_becomes_free(prefix: str) -> None:
    layer = layer_of(prefix)
    end = threading.Event()

    async def occupy() -> None:
        waiting = asyncio.create_task(layer.receive("nothing"))
        await asyncio.to_thread(end.wait)
        await cancelled(waiting)

    threads = [threading.Thread(target=lambda: asyncio.run(occupy())) for _ in range(_core.LOOPS)]
    for thread in threads:
        thread.start()

    async def main() -> None:
        await wait_until(lambda: len(doorbells(prefix)) == _core.LOOPS, "all places are taken", 5)
        (waiting,) = await receiving(layer, "a")
        wait_set = probe(layer).wait_set
        assert wait_set.number == -1
        end.set()
        await wait_until(lambda: wait_set.number >= 0, "the loop has a place", 5)
        await layer.send("a", {"n": 1})
        assert (await asyncio.wait_for(waiting, 2))["n"] == 1

    run(main())
    for thread in threads:
        thread.join()


async def test_looks_are_rarer_where_only_inboxes_are_awaited(prefix: str) -> None:
    """Messages of an inbox are announced to no other process, which could be busy."""
    layer = layer_of(prefix)
    (own,) = await receiving(layer, await layer.new_channel())
    looks: list[float] = []
    probe(layer).each_housekeeping(lambda: looks.append(time.monotonic()))

    async def least_pause(number: int) -> float:
        """Between that many looks."""
        looks.clear()
        await wait_until(lambda: len(looks) >= number, "housekeeping is done")
        return min(later - earlier for earlier, later in pairwise(looks))

    assert await least_pause(3) > 0.9
    (normal,) = await receiving(layer, "normal")
    assert 0.2 < await least_pause(5) < 0.8
    for waiting in (own, normal):
        waiting.cancel()
    await asyncio.gather(own, normal, return_exceptions=True)


def test_one_loop_after_another_is_rung(prefix: str, spawn: Spawn) -> None:
    """Each loop has a doorbell of its own at the same path; a sender must not keep ringing the last one's."""
    layer = layer_of(prefix)
    other = spawn("tests.ipc.test_loops:answer_late", prefix)
    other.ready()
    reply = async_to_sync(layer.new_channel)()
    times = []

    async def once(n: int) -> None:
        await layer.send("work", {"n": n, "reply": reply})
        begin = time.monotonic()
        assert await receive(layer, reply) == n
        times.append(time.monotonic() - begin)

    for n in range(12):
        asyncio.run(once(n))
    async_to_sync(layer.send)("work", {"n": 1, "reply": ""})
    other.result()
    assert sorted(times)[9] < 0.15, times


async def answer_late(parent: Parent, prefix: str) -> None:
    """Answers when the other one has gone to sleep."""
    layer = layer_of(prefix)
    parent.ready()
    while (message := await layer.receive("work"))["reply"]:
        await others_fall_asleep()
        await layer.send(message["reply"], {"n": message["n"]})


def test_descriptors_of_loops_closed_without_notice(prefix: str) -> None:
    layer = layer_of(prefix)

    async def wait_a_moment() -> None:
        waiting = asyncio.create_task(layer.receive("a"))
        await turns()
        await cancelled(waiting)

    def use() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(wait_a_moment())
        loop.close()

    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        use()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert len(doorbells(prefix)) == 1


def test_waiting_while_memory_is_full(prefix: str) -> None:
    """Not a block is left to register as a waiter; when there is one again, the reader is served."""
    layer = layer_of(prefix, message_memory=64 << 10, capacity=10_000)

    async def main() -> None:
        number = 0
        for size in (2000, 100, 1):
            try:
                while True:
                    await layer.send("full", {"n": number, "x": "x" * size})
                    number += 1
            except layer.ChannelFull:
                pass
        waiting = asyncio.create_task(layer.receive("empty"))
        await turns(5)
        assert not waiting.done()
        for n in range(number):
            assert await receive(layer, "full") == n
        await layer.send("empty", {"n": "at last"})
        assert (await asyncio.wait_for(waiting, 2))["n"] == "at last"

    run(main())
    with flushed(layer):
        check(layer)


def test_reader_of_another_loop_is_woken_when_a_loop_ends(prefix: str) -> None:
    """The message was announced to the loop that ended before it looked."""
    layer = layer_of(prefix)
    asleep = threading.Event()
    got: list[float] = []

    async def wait() -> None:
        (waiting,) = await receiving(layer, "a")
        asleep.set()
        await asyncio.wait_for(waiting, 5)
        got.append(time.monotonic())

    async def announced_and_gone() -> None:
        (waiting,) = await receiving(layer, "a")
        thread.start()
        asleep.wait(5)
        async_to_sync_in_thread(layer)  # this loop is the oldest waiter, so the message is announced to it
        await cancelled(waiting)

    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    asyncio.run(announced_and_gone())
    ended = time.monotonic()
    thread.join(10)
    assert got
    assert got[0] - ended < 0.2


def async_to_sync_in_thread(layer: Any) -> None:
    sender = threading.Thread(target=lambda: asyncio.run(layer.send("a", {"n": 1})))
    sender.start()
    sender.join(5)
