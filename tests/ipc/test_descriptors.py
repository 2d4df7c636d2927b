"""Descriptors over many event loops, threads, layers and forks: none is left, and none survives an exec."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.loops import leave_pending
from tests.ipc.tools import check, doorbells, is_clean, layer_of, receive
from tests.support.forked import fork, quiet_forks, wait_for
from tests.support.loops import LOOPS, LoopKind, run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import cancelled, receiving, turns


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number."""
    gc.collect()
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # that of the listing
            continue
    return found


def of_the_layer(found: dict[int, str], prefix: str) -> list[str]:
    name = probe(layer_of(prefix)).segment.name
    return [path for path in found.values() if name in path]


async def use(layer: IPCChannelLayer, n: int) -> None:
    """Every call, with waiters that are served and some that are cancelled."""
    own = await layer.new_channel()
    await layer.group_add("group", own)
    waiting = [asyncio.create_task(layer.receive(name)) for name in (own, "normal")]
    idle = [asyncio.create_task(layer.receive(name)) for name in (await layer.new_channel(), "idle")]
    await turns()
    await layer.group_send("group", {"n": n})
    await layer.send("normal", {"n": n})
    assert [(await task)["n"] for task in waiting] == [n, n]
    await layer.group_discard("group", own)
    await cancelled(*idle)
    if n % 3 == 0:
        await layer.close()


def one_loop_each(layer: IPCChannelLayer, n: int, kind: LoopKind) -> None:
    run(use(layer, n), loop=kind)


def sync_code_in_a_thread(layer: IPCChannelLayer, n: int, kind: LoopKind) -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(async_to_sync(use), layer, n).result()


def closed_under_a_waiter(layer: IPCChannelLayer, n: int, kind: LoopKind) -> None:
    """Without a word, and with coroutines in `receive`."""
    loop = LOOPS[kind]()

    async def wait() -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(layer.receive(name)) for name in ("idle", await layer.new_channel())]
        await turns()
        return tasks

    tasks = loop.run_until_complete(wait())
    loop.close()
    for task in tasks:
        leave_pending(task)  # asyncio would complain, rightly


WAYS = {
    "one loop each": (one_loop_each, "asyncio", 1000),
    "one loop each, uvloop": (one_loop_each, "uvloop", 200),
    "sync code in threads": (sync_code_in_a_thread, "asyncio", 200),
    "closed under a waiter": (closed_under_a_waiter, "asyncio", 200),
    "closed under a waiter, uvloop": (closed_under_a_waiter, "uvloop", 200),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:.*was never awaited")
def test_none_is_left_by_loops(prefix: str, way: str) -> None:
    use_once, kind, times = WAYS[way]
    layer = layer_of(prefix)
    for n in range(3):
        use_once(layer, n, kind)
    run(use(layer, 0))
    before = open_descriptors()
    blocks = check(layer)
    for n in range(times):
        use_once(layer, n, kind)
    run(use(layer, 0))  # the next user releases what a loop that was closed without notice has left
    after = open_descriptors()
    assert len(after) <= len(before), after
    assert len(doorbells(prefix)) <= way.startswith("closed")
    left = check(layer)
    assert left["blocks"] - left["free"] <= blocks["blocks"] - blocks["free"]
    assert left["channels"] <= blocks["channels"]


def test_none_is_left_by_layers(prefix: str) -> None:
    """Built, used, closed and collected, fifty times; the last one leaves nothing in /dev/shm either."""

    def once(n: int) -> None:
        layer = layer_of(prefix)
        run(use(layer, n))

    once(0)
    before = open_descriptors()
    mappings = len(Path("/proc/self/maps").read_text().splitlines())
    for n in range(50):
        once(n)
    assert len(open_descriptors()) <= len(before)
    assert len(Path("/proc/self/maps").read_text().splitlines()) <= mappings + 10
    assert is_clean(prefix)


# Forks and execs, in the middle of a wait


def test_fork_in_the_middle_of_a_wait(prefix: str, spawn: Spawn) -> None:
    assert spawn("tests.ipc.test_descriptors:fork_while_waiting", prefix).result() is None
    assert is_clean(prefix)


async def fork_while_waiting(parent: Parent, prefix: str) -> None:
    """No message is read twice, none by the wrong one; a dozen children leave neither side a descriptor."""
    layer = layer_of(prefix)
    own = await layer.new_channel()
    await layer.group_add("group", own)
    waiting = dict(zip((own, "normal"), await receiving(layer, own, "normal"), strict=True))
    before = open_descriptors()

    def child() -> None:
        """Inherits two coroutines that wait, and a loop that runs. Waits for both names of its own accord."""
        inherited = len(open_descriptors())
        thread = threading.Thread(target=lambda: asyncio.run(in_child()))
        thread.start()
        thread.join()
        probe(layer).segment.close()
        assert len(open_descriptors()) <= inherited, open_descriptors()

    async def in_child() -> None:
        mine = await layer.new_channel()
        await layer.group_add("group", mine)
        reading = [asyncio.create_task(layer.receive(mine)), asyncio.create_task(layer.receive("child"))]
        await turns()
        await layer.send("from.the.child", {"mine": mine})
        async with asyncio.timeout(10):
            assert [(await task)["n"] for task in reading] == ["to the group", "to the child"]
        await layer.send(own, {"n": "to the parent"})
        await layer.send("normal", {"n": "to the parent"})

    for _ in range(12):
        with quiet_forks():
            pid = fork(child)
        async with asyncio.timeout(10):
            await layer.receive("from.the.child")
            await layer.group_send("group", {"n": "to the group"})
            await layer.send("child", {"n": "to the child"})
            assert (await waiting[own])["n"] == "to the group"
            assert await receive(layer, own) == "to the parent"
            assert (await waiting["normal"])["n"] == "to the parent"
        await asyncio.to_thread(wait_for, pid)
        waiting = {name: asyncio.create_task(layer.receive(name)) for name in (own, "normal")}
        await turns()
    # And perhaps the doorbell of the last child, to be closed when its place is rung again.
    assert len(open_descriptors()) <= len(before) + 1, open_descriptors()
    for task in waiting.values():
        task.cancel()
    await asyncio.gather(*waiting.values(), return_exceptions=True)
    counters = await layer.statistics()
    # For each of 12 children: from it, to the group (2), to it, to the parent (2). Each came to one reader.
    assert counters["sent"] == counters["received"] == 12 * 6, counters


@pytest.mark.parametrize("how", ["exec", "subprocess"])
def test_none_goes_through_an_exec(prefix: str, spawn: Spawn, how: str) -> None:
    """Also those of a waiting loop, and of the doorbells of others that were rung."""
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    other.ready()
    process = spawn("tests.ipc.test_descriptors:exec_while_waiting", prefix, how)
    assert process.result() == 0
    layer = layer_of(prefix)
    run(layer.send("work", {"n": 1, "reply": ""}))
    assert other.result() == 1


LIST = """
import os, sys
found = []
for name in os.listdir("/proc/self/fd"):
    try:
        found.append(os.readlink(f"/proc/self/fd/{name}"))
    except FileNotFoundError:
        pass
ours = [path for path in found if "hybrid_layer" in path and "/shm/" in path]
sys.exit(len(ours))
"""


async def exec_while_waiting(parent: Parent, prefix: str, how: str) -> int:
    layer = layer_of(prefix)
    own = await layer.new_channel()
    await layer.send("work", {"n": 1, "reply": own})  # rings the other's doorbell, so that it is open here
    assert await receive(layer, own) == 1
    (waiting,) = await receiving(layer, "idle")
    assert len(of_the_layer(open_descriptors(), prefix)) >= 3
    command = [sys.executable, "-c", LIST]
    if how == "subprocess":
        code = subprocess.run(command, close_fds=False, check=False).returncode  # noqa: ASYNC221
    else:
        with quiet_forks():
            pid = os.fork()
        if pid == 0:
            os.execv(command[0], command)
        code = os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1])
    await cancelled(waiting)
    return code
