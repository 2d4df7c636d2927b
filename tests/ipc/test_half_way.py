"""Processes killed at each system call while they make a segment, join it, or leave it: it delays no other process."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from functools import partial

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.ipc import IPCChannelLayer
from tests.ipc.tools import alive, check, doorbells, is_clean, layer_of, receive
from tests.support.forked import exit_code, fork
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.stepping import kill_at_stop
from tests.support.waiting import block_any_moment, turns, wait_until

PROMPT = 5.0
"""Seconds: far more than a process needs, and less than it waits for a lock file that is never released."""


def come_and_go(prefix: str) -> None:
    """All that the segment sees of a process: with an inbox, a membership, a doorbell, and messages of every kind."""
    layer = layer_of(prefix)

    async def main() -> None:
        own = await layer.new_channel()
        await layer.group_add("group", own)
        waiting = asyncio.create_task(layer.receive(own))
        await turns()
        await layer.group_send("group", {"n": 1})
        assert (await waiting)["n"] == 1
        await layer.send("a", {"n": os.getpid(), "x": "x" * 70_000})
        while await receive(layer, "a") != os.getpid():
            pass  # of a killed sender

    with asyncio.Runner() as runner:
        runner.run(main())
    probe(layer).segment.close()


@pytest.mark.parametrize("whose", [pytest.param("nobody's", marks=pytest.mark.thorough), "mine"])
def test_killed_at_each_system_call(prefix: str, spawn: Spawn, whose: str) -> None:
    """On no segment, and on one that another process has: from the first call to the last."""
    stops, slowest = spawn("tests.ipc.test_half_way:kill_at_each_stop", prefix, whose, flags=()).result(100)
    assert stops > 100  # there is much to do; it was really followed
    assert slowest < PROMPT


def kill_at_each_stop(parent: Parent, prefix: str, whose: str) -> tuple[int, float]:
    """How many stops there were, and how long the next process took at most."""
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())  # replaces what is unfinished
    come_and_go(prefix)  # imports what is imported late
    own = layer_of(prefix) if whose == "mine" else None
    if own is not None:
        async_to_sync(own.new_channel)()
    slowest = 0.0
    stop = 0
    while kill_at_stop(stop := stop + 1, lambda: come_and_go(prefix)):
        begin = time.monotonic()
        if own is None:
            come_and_go(prefix)
            assert is_clean(prefix), f"litter of who was killed at stop {stop}"
        else:
            async_to_sync(own.send)("a", {"n": stop})
            while async_to_sync(receive)(own, "a") != stop:
                pass  # of a killed sender
            check(own)
        slowest = max(slowest, time.monotonic() - begin)
    if own is not None:
        run(eventually_tidy(own, prefix))
    return stop, slowest


async def eventually_tidy(layer: IPCChannelLayer, prefix: str) -> None:
    """Nothing is left of anybody but this process, which sends now and then."""

    def is_tidy() -> bool:
        totals = check(layer)
        slots = len(probe(layer).core.processes())
        return (doorbells(prefix), slots, totals["channels"], totals["members"]) == ([], 1, 1, 0)

    async def is_tidy_for_a_sender() -> bool:
        await layer.group_send("nobody", {})
        return is_tidy()

    await wait_until(is_tidy_for_a_sender, "nothing is left of the dead", 2)


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.thorough), 25], ids=["no", "half"])
def test_fifty_at_once_and_some_of_them_killed(prefix: str, spawn: Spawn, number: int) -> None:
    """Makers among them. The others meet in one segment, and none hangs."""
    layer = layer_of(prefix)
    starter = spawn("tests.ipc.test_half_way:fork_fifty_and_kill", prefix, number, random.randrange(10**9))
    killed = starter.ready()
    survivors = {n for n in range(50) if n not in killed}
    inodes: dict[int, int] = {}

    async def meet() -> None:
        while not survivors <= set(inodes):
            n, inode = await receive(layer, "started", 30)
            inodes[n] = inode

    asyncio.run(meet())
    assert set(inodes.values()) == {probe(layer).inode}
    assert len(survivors) == 50 - number
    assert alive(layer) == len(survivors) + 1
    left = check(layer)
    assert number or left["messages"] == 0  # of a killed one, perhaps
    starter.send("end")
    assert starter.result() == [0] * len(survivors)
    assert alive(layer) == 1
    async_to_sync(layer.flush)()
    probe(layer).segment.close()
    assert is_clean(prefix), doorbells(prefix)


def fork_fifty_and_kill(parent: Parent, prefix: str, number: int, seed: int) -> list[int]:
    """They have imported everything, but share nothing, and start at once; some are killed while they attach."""
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    random_ = random.Random(seed)
    begin_in, begin_out = os.pipe()
    end_in, end_out = os.pipe()

    def start(n: int) -> None:
        os.close(begin_out)
        os.close(end_out)
        os.read(begin_in, 1)
        layer = layer_of(prefix)
        inode = probe(layer).inode
        asyncio.run(layer.send("started", {"n": (n, inode)}))
        os.read(end_in, 1)
        probe(layer).segment.close()

    pids = [fork(partial(start, n)) for n in range(50)]
    os.close(begin_out)
    killed = set(random_.sample(range(50), number))
    for n in killed:
        block_any_moment(0.002, random_)
        os.kill(pids[n], signal.SIGKILL)
        os.waitpid(pids[n], 0)
    parent.ready(killed)
    parent.receive()
    os.close(end_out)
    return [exit_code(pid) for n, pid in enumerate(pids) if n not in killed]
