"""Processes whose descriptors other code closes or replaces: they attach again, and the others lose nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time

import pytest

from hybrid_layer.exceptions import SegmentDamaged
from hybrid_layer.ipc import _core, objects
from tests.contract.peers import Warnings
from tests.ipc.tools import (
    alive,
    check,
    inode_of,
    is_clean,
    layer_of,
    receive,
    waiting_member,
)
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import until, wait_until


def close_descriptors(parent: Parent, prefix: str, how: str) -> list[str]:
    """Some code of this process closes descriptors that are not its own, once with other files opened instead."""
    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)
    layer = layer_of(prefix)

    async def main() -> None:
        own, waiting = await waiting_member(layer)
        path = str(objects.lock_bearer(probe(layer).segment.name))
        ours = [int(fd) for fd in os.listdir("/proc/self/fd") if link(fd) == path]
        assert len(ours) == 1
        if how == "another of the same file":
            os.close(os.open(path, os.O_RDWR))  # takes our record locks with it
        elif how == "replaced":
            os.dup2(os.open("/dev/null", os.O_RDWR), ours[0])
        else:
            os.close(ours[0])
        parent.ready(own)
        await asyncio.to_thread(parent.receive)
        assert (await asyncio.wait_for(waiting, 5))["n"] == 1
        assert probe(layer).core.lost() is None

    asyncio.run(main())
    return warnings.texts


def link(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("how", ["closed", "replaced", "another of the same file"])
def test_descriptors_closed_by_others(prefix: str, spawn: Spawn, how: str) -> None:
    """The process attaches again, to the same segment, which stays in use by the others."""
    layer = layer_of(prefix)

    async def main() -> None:
        await layer.send("kept", {"n": "kept"})
        other = spawn("tests.ipc.test_lost_descriptors:close_descriptors", prefix, how)
        inode = inode_of(prefix)
        name = await asyncio.to_thread(other.ready)
        await until(time.monotonic() + 1.5)  # it looks each second
        other.send(None)
        await layer.send(name, {"n": 1})
        warnings = await asyncio.to_thread(other.result)
        assert len(warnings) == (0 if how == "another of the same file" else 1), warnings
        assert inode_of(prefix) == inode
        assert await receive(layer, "kept") == "kept"

    run(main())
    check(layer)
    assert alive(layer) == 1
    run(layer.flush())


def send_without_descriptors(parent: Parent, prefix: str) -> None:
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layer = layer_of(prefix, message_memory=16 << 20)
    run(layer.send("work", {"n": 0}))
    parent.ready()
    parent.receive()
    os.close(probe(layer).segment_descriptor)
    sent = 0
    while sent < 3:
        try:
            run(layer.send("work", {"n": 0}))
            sent += 1
        except SegmentDamaged:
            continue  # this message may be lost, no other process's
    parent.ready()
    parent.receive()


def test_closed_descriptors_cost_others_nothing(prefix: str, spawn: Spawn) -> None:
    """The segment has grown since. A process that cannot map the new part does not repair what it cannot see."""
    layer = layer_of(prefix, message_memory=16 << 20, capacity=2000)
    run(layer.send("other", {"n": 0}))
    other = spawn("tests.ipc.test_lost_descriptors:send_without_descriptors", prefix)

    async def main() -> None:
        for n in range(400):
            await layer.send("mine", {"n": n, "text": "x" * 8000})
        other.send(None)
        await asyncio.to_thread(other.ready)
        other.send(None)
        await asyncio.to_thread(other.result)
        assert [await receive(layer, "mine") for _ in range(400)] == list(range(400))
        assert (await layer.statistics())["damaged"] == 0

    other.ready()
    run(main())
    check(layer)
    run(layer.flush())


@pytest.mark.parametrize("how", ["closed", "replaced"])
def test_receive_without_descriptors(prefix: str, how: str) -> None:
    """There is not even room to wait in, and none to be had: the process attaches again, without an error."""
    layer = layer_of(prefix, message_memory=4 << 20)
    channels = [f"channel.{n}" for n in range(3000)]

    async def main() -> None:
        await layer.send("kept", {"n": "kept"})
        segment = probe(layer).segment
        core = segment.core
        failed: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        stranger = os.open("/dev/null", os.O_RDWR)
        if how == "replaced":
            os.dup2(stranger, probe(layer).segment_descriptor)
        else:
            os.close(probe(layer).segment_descriptor)
        os.close(stranger)
        waiting = [asyncio.create_task(receive(layer, channel, 20)) for channel in channels]
        await wait_until(lambda: segment.core is not core, "the process has attached anew", 5)
        for n, channel in enumerate(channels):
            await layer.send(channel, {"n": n})
        assert await asyncio.gather(*waiting) == list(range(3000))
        assert await receive(layer, "kept") == "kept"
        assert not failed

    run(main())
    check(layer)


@pytest.mark.parametrize("how", ["closed", "replaced"])
def test_lock_file_closed_by_others(prefix: str, how: str) -> None:
    """The next process that leaves or attaches neither fails nor closes the file that now has its number."""
    layer = layer_of(prefix)
    asyncio.run(layer.send("a", {"n": 1}))
    assert asyncio.run(layer.receive("a")) == {"n": 1}
    number = probe(layer).lock_descriptor
    stranger = os.open("/dev/null", os.O_RDWR)
    if how == "replaced":
        os.dup2(stranger, number)
    else:
        os.close(number)
    del layer
    gc.collect()
    assert _core.PORTABLE or is_clean(prefix)  # there the record locks went with it
    if how == "replaced":
        assert os.path.samestat(os.fstat(number), os.fstat(stranger))
        os.close(number)
    os.close(stranger)
