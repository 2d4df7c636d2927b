"""Processes that change their user (setuid), as servers do that begin as root: each uses the segment of its user.

Needs root; without, the end of the run says so.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier

import pytest

from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.ipc.objects import directory_of, segment_name
from tests.contract.forks import exchange
from tests.ipc.tools import (
    alive,
    check,
    doorbells,
    layer_of,
    receive,
    segment_path,
    waiting_member,
)
from tests.support.forked import WAYS, fork, wait_for
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import at_rest, wait_until

NOBODY = 65534


@pytest.fixture
def prefix(prefix: str) -> Iterator[str]:
    yield prefix
    segment_path(prefix, NOBODY).unlink(missing_ok=True)
    shutil.rmtree(directory_of(segment_name(prefix, NOBODY)), ignore_errors=True)


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def quiet_layer_of(prefix: str) -> IPCChannelLayer:
    """It warns of root's segment, whose processes do not reach those of the user nobody."""
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    return layer_of(prefix)


async def talk(layer: IPCChannelLayer, together: Barrier, others: int) -> None:
    """Each of so many processes hears the others, on all kinds of channels."""
    await exchange(layer)
    own, waiting = await waiting_member(layer, "nobodies")
    await asyncio.to_thread(together.wait, 10)  # both are members
    await layer.group_send("nobodies", {"n": os.getpid()})
    heard = {(await asyncio.wait_for(waiting, 5))["n"]}
    async with asyncio.timeout(5):
        while len(heard) < others:
            heard.add((await layer.receive(own))["n"])
    assert os.getpid() in heard


def preloaded(parent: Parent, prefix: str, way: str, used_as_root: bool) -> None:
    """Root uses the layer, then forks workers that become the user nobody."""
    layer = quiet_layer_of(prefix)
    asyncio.run(exchange(layer))
    asyncio.run(layer.send("kept", {"n": 1}))
    core = probe(layer).core
    together = multiprocessing.Barrier(2)

    def worker() -> None:
        if used_as_root:
            asyncio.run(exchange(layer))
        become_nobody()
        asyncio.run(talk(layer, together, 2))
        assert segment_path(prefix, NOBODY).exists()
        probe(layer).segment.close()

    pids = [WAYS[way](worker) for _ in range(2)]
    for pid in pids:
        wait_for(pid)
    assert probe(layer).core is core
    assert core.lost() is None
    assert alive(layer) == 1
    assert asyncio.run(receive(layer, "kept")) == 1
    asyncio.run(exchange(layer))
    check(layer)


@pytest.mark.parametrize(
    ("way", "used_as_root"), [("by Python", False), ("by Python", True), ("in C", False), ("in C", True)]
)
def test_workers_of_a_server_that_began_as_root(prefix: str, spawn: Spawn, way: str, used_as_root: bool) -> None:
    assert spawn(preloaded, prefix, way, used_as_root).result() is None


def without_fork(parent: Parent, prefix: str) -> None:
    """Consumers wait while their process changes its user: they get what is sent to them as before."""
    layer = quiet_layer_of(prefix)

    async def main() -> None:
        own, waiting = await waiting_member(layer)
        other = await layer.new_channel()
        normal = asyncio.create_task(layer.receive("normal"))
        await layer.send(other, {"n": 0})  # which is taken in, or lies in the old segment
        await at_rest(layer, "normal")
        core = probe(layer).core
        become_nobody()
        await wait_until(
            lambda: probe(layer).core is not core and len(doorbells(prefix)) == 1,
            "the process has attached anew, with a doorbell",
            5,
        )
        await layer.send(own, {"n": 1})
        assert (await asyncio.wait_for(waiting, 5))["n"] == 1
        waiting = asyncio.create_task(layer.receive(own))
        await layer.group_send("group", {"n": 2})
        assert (await asyncio.wait_for(waiting, 5))["n"] == 2
        await layer.send("normal", {"n": 3})
        assert (await asyncio.wait_for(normal, 5))["n"] == 3
        check(layer)

    asyncio.run(main())
    assert not core_is_attached(parent, prefix)
    asyncio.run(exchange(layer))
    probe(layer).segment.close()


def core_is_attached(parent: Parent, prefix: str) -> bool:
    """Whether we still have a slot in root's segment, as a process of root sees it."""
    parent.ready(None)
    return bool(parent.receive())


def test_a_process_that_changes_its_user(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    asyncio.run(layer.send("kept", {"n": 1}))
    process = spawn(without_fork, prefix)
    process.ready()
    process.send(alive(layer) > 1)
    assert process.result() is None
    assert asyncio.run(receive(layer, "kept")) == 1
    check(layer)


def test_a_process_that_changes_its_user_and_back(prefix: str) -> None:
    """And back: it uses the segment of the user that it is at the time."""

    def child() -> None:
        layer = quiet_layer_of(prefix)
        asyncio.run(exchange(layer))
        os.seteuid(NOBODY)
        asyncio.run(exchange(layer))
        os.seteuid(0)
        asyncio.run(exchange(layer))
        check(layer)
        probe(layer).segment.close()

    wait_for(fork(child))
