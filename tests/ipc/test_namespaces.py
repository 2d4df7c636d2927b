"""Containers that share /dev/shm: the main process of each is number 1, which means nothing in another one.

Where namespaces are not allowed (the end of the run says so), the same happens in one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from hybrid_layer.exceptions import ConfigurationError, SegmentBusy
from tests.ipc.namespaces import in_its_own
from tests.ipc.programs import Stopper
from tests.ipc.tools import alive, check, layer_of, receive, waiting_member
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Process, Spawn
from tests.support.waiting import block_any_moment, block_until, cancelled, wait_until


async def relay(parent: Parent, prefix: str, channel: str) -> int:
    """Passes messages on to where they say, and tells what it sees, until it is to end."""
    layer = layer_of(prefix)
    own, waiting = await waiting_member(layer, "all")
    parent.ready((own, os.getpid()))
    passed = 0
    while (message := await layer.receive(channel))["to"]:
        if message["to"] == "look":
            processes = probe(layer).core.processes()
            parent.send([pid for _, _, pid, is_alive in processes if is_alive])
            continue
        await layer.send(message["to"], {**message, "to": message["then"], "then": message.get("last", "")})
        passed += 1
    await cancelled(waiting)
    return passed


def test_traffic_and_death(prefix: str, spawn: Spawn) -> None:
    """From here into one namespace, on into the other, and back; then the one dies, and the other sees it."""
    layer = layer_of(prefix)

    async def main() -> None:
        own = await layer.new_channel()
        await layer.group_add("all", own)
        start = "tests.ipc.test_namespaces:relay"
        first = spawn(start, prefix, "first", under=in_its_own())
        name, pid = await asyncio.to_thread(first.ready)
        known = {other for _, _, other, _ in probe(layer).core.processes()}
        (seen_from_here,) = known - {os.getpid()}
        second = spawn(start, prefix, "second", under=in_its_own())
        _, other_pid = await asyncio.to_thread(second.ready)
        assert (pid == other_pid == 1) == bool(in_its_own())
        for n in range(20):
            await layer.send("first", {"n": n, "to": "second", "then": own, "last": ""})
            assert await receive(layer, own) == n
        await layer.group_send("all", {"n": "to the group"})
        assert await receive(layer, own) == "to the group"
        # Each knows itself, and gives no process of another namespace a number that means another process.
        for process, channel in ((first, "first"), (second, "second")):
            await layer.send(channel, {"to": "look"})
            seen = await asyncio.to_thread(process.receive)
            assert sorted(seen) == ([0, 0, 1] if in_its_own() else sorted([os.getpid(), pid, other_pid]))
        assert check(layer)["members"] == 3
        await asyncio.to_thread(end, first, seen_from_here)
        await wait_until(lambda: alive(layer) == 2, "both are there", 2)
        waiting = asyncio.create_task(layer.receive("nothing"))
        await wait_until(lambda: check(layer)["members"] == 2, "both are members", 2)
        await cancelled(waiting)
        dead = (await layer.statistics())["dead"]
        await layer.send(name, {"n": 1})
        assert (await layer.statistics())["dead"] == dead + 1
        await layer.send("second", {"n": "still", "to": own, "then": ""})
        assert await receive(layer, own) == "still"
        await layer.send("second", {"to": ""})
        assert await asyncio.to_thread(second.result) == 21

    run(main())
    check(layer)


async def meet_a_stopped_holder(parent: Parent, prefix: str) -> str:
    """The error when a process of another namespace holds the lock; then that one dies."""
    layer = layer_of(prefix)
    await layer.new_channel()
    parent.ready()
    await asyncio.to_thread(parent.receive)
    with pytest.raises(SegmentBusy) as busy:
        await layer.send("a", {"n": 1})
    parent.ready()
    await asyncio.to_thread(parent.receive)
    begin = time.monotonic()
    await layer.send("a", {"n": "after the takeover"})
    assert time.monotonic() - begin < 1
    return str(busy.value)


def test_takeover_from_outside(prefix: str, spawn: Spawn, stopper: Callable[[str], Stopper]) -> None:
    layer = layer_of(prefix)
    run(layer.send("kept", {"n": "kept"}))
    rebuilds = probe(layer).core.rebuilds
    other = spawn("tests.ipc.test_namespaces:meet_a_stopped_holder", prefix, under=in_its_own())
    other.ready()
    holder = stopper(prefix)
    holder.stop()
    other.send("go")
    other.ready()
    holder.kill()
    other.send("go")
    told = other.result()
    if in_its_own():
        assert "locked by a process of another pid namespace (another container)" in told
        assert "process 1 " not in told
    assert probe(layer).core.rebuilds == rebuilds + 1
    assert run(receive(layer, "a")) == "after the takeover"
    assert run(receive(layer, "kept")) == "kept"
    check(layer)


def test_takeover_from_inside(prefix: str, spawn: Spawn) -> None:
    """The one that dies is number 1 of its namespace; seen from here it has another number, by which it is named."""
    layer = layer_of(prefix, message_memory=200 << 20)
    inside = spawn("tests.ipc.test_death:lock_often", prefix, under=in_its_own())
    inside.ready()
    core = probe(layer).core
    slot, pid = next((slot, pid) for slot, _, pid, is_alive in core.processes() if is_alive and pid != os.getpid())
    assert "python" in psutil.Process(pid).name()
    stop_in_the_lock(pid, slot, core)
    with pytest.raises(SegmentBusy, match=rf"process {pid} \(python.*, stopped\)"):
        run(layer.send("a", {"n": 1}))
    rebuilds = core.rebuilds
    end(inside, pid)
    begin = time.monotonic()
    run(layer.send("a", {"n": 2}))
    assert time.monotonic() - begin < 1
    assert core.rebuilds == rebuilds + 1
    assert run(receive(layer, "a")) == 2
    check(layer)


def end(process: Process, pid: int) -> None:
    """Kill it from here, by the number that it has here; its namespace ends with it, and then `unshare`."""
    os.kill(pid, signal.SIGKILL)
    assert process.wait(20) != 0


def stop_in_the_lock(pid: int, slot: int, core: Any) -> None:
    for _ in range(500):
        os.kill(pid, signal.SIGSTOP)
        block_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "the process is stopped")
        if (core.lock_word >> 1 & 0x7FF) - 1 == slot:
            return
        os.kill(pid, signal.SIGCONT)
        block_any_moment(0.004)
    raise AssertionError("it was never met in the lock")


def test_other_sizes_of_another_container(prefix: str, spawn: Spawn) -> None:
    """The refusal counts its users without giving them wrong numbers."""
    layer = layer_of(prefix)
    run(layer.new_channel())
    told = spawn("tests.ipc.test_namespaces:be_refused", prefix, under=in_its_own()).result()
    assert "message_memory=1048576" in told
    assert "message_memory=2097152" in told
    if in_its_own():
        assert "used by a process of another pid namespace (another container);" in told


async def be_refused(parent: Parent, prefix: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await layer_of(prefix, message_memory=2 << 20).send("a", {"n": 1})
    return str(refused.value)
