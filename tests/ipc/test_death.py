"""Processes that are killed: the others continue, and what the dead held is freed soon."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.ipc import IPCChannelLayer, _core
from tests.ipc.tools import alive, check, doorbells, flushed, is_clean, layer_of, receive
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Process, Spawn
from tests.support.waiting import block_any_moment, block_until, cancelled, receiving, turns, wait_until


async def test_inbox_memberships_and_doorbells_of_the_dead(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    waiting = asyncio.create_task(layer.receive("nothing"))
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    name, _ = await asyncio.to_thread(other.ready)
    await layer.send(name, {"n": 1})
    before = check(layer)
    assert before["members"] == 1
    assert len(doorbells(prefix)) == 2
    await asyncio.to_thread(other.kill)
    await wait_until(lambda: check(layer)["members"] == 0, "the dead are no members any more", 2)
    after = check(layer)
    assert (after["pairs"], after["groups"]) == (0, 0)
    await wait_until(lambda: len(doorbells(prefix)) == 1, "the doorbell of the dead is gone", 1)
    assert alive(layer) == 1
    # A message to it has no receiver now, and is counted.
    dead = (await layer.statistics())["dead"]
    await layer.send(name, {"n": 2})
    assert (await layer.statistics())["dead"] == dead + 1
    await cancelled(waiting)


def test_the_dead_are_found_by_who_only_sends(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    other.ready()
    other.kill()

    def are_found() -> bool:
        async_to_sync(layer.group_send)("another", {"n": 1})
        return check(layer)["members"] == 0

    block_until(are_found, "the dead are no members any more", 2)


def be_many(parent: Parent, prefix: str, number: int) -> None:
    """Children that each have an inbox, and are killed when it is said."""
    pids = []
    for _ in range(number):
        pid = os.fork()
        if pid == 0:
            layer = layer_of(prefix)  # kept: a process whose layer is collected leaves
            async_to_sync(layer.new_channel)()
            signal.pause()
            os._exit(0)
        pids.append(pid)
    parent.ready()
    parent.receive()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    parent.ready()


@pytest.mark.thorough
async def test_many_dead_are_gone_within_two_seconds_beside_one_who_seldom_looks(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    waiting = asyncio.create_task(layer.receive(await layer.new_channel()))
    others = spawn("tests.ipc.test_death:be_many", prefix, 400)
    await asyncio.to_thread(others.ready)
    await wait_until(lambda: alive(layer) == 401, "all have attached", 20)
    others.send(None)
    await asyncio.to_thread(others.ready)
    # Room for a busy machine: with as many probes as where looks are frequent it would be more than three.
    await wait_until(lambda: len(probe(layer).core.processes()) == 1, "the dead are gone", 2.9)
    assert await asyncio.to_thread(others.result) is None
    await cancelled(waiting)


@pytest.mark.parametrize("how", ["waits", "waits on its own channel", "sends", "sends to groups", "sends without loop"])
def test_all_of_the_dead_goes_within_two_seconds(prefix: str, spawn: Spawn, how: str) -> None:
    """Whatever the only other process does. This one does nothing but look."""
    layer = layer_of(prefix)
    assert alive(layer) == 1
    watcher = spawn("tests.ipc.test_death:watch", prefix, how)
    watcher.ready()
    bells = doorbells(prefix)
    dead = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    dead.ready()
    assert (check(layer)["members"], len(doorbells(prefix))) == (1, len(bells) + 1)
    pid = dead.pid
    dead.kill()

    def is_reaped() -> bool:
        totals = check(layer)
        is_out = all(process != pid for _, _, process, _ in probe(layer).core.processes())
        return is_out and (totals["members"], totals["groups"]) == (0, 0) and doorbells(prefix) == bells

    run(wait_until(is_reaped, "the dead one is gone", 2))
    watcher.send("end")
    assert watcher.result() is None


async def watch(parent: Parent, prefix: str, how: str) -> None:
    """Does one thing, until asked to stop."""
    layer = layer_of(prefix)
    stop = asyncio.create_task(asyncio.to_thread(parent.receive))
    if how.startswith("waits"):
        channel = await layer.new_channel() if "own" in how else "idle"
        (waiting,) = await receiving(layer, channel)
        parent.ready()
        await stop
        await cancelled(waiting)
        return
    send = layer.group_send if "groups" in how else layer.send
    parent.ready()
    for n in range(10**6):
        if stop.done():
            break
        if "without" in how:
            await asyncio.to_thread(lambda n=n: async_to_sync(send)(f"sent.{n % 100}", {"n": n}))
        else:
            await send(f"sent.{n % 100}", {"n": n})
        await asyncio.wait([stop], timeout=0.1)
    await layer.flush()


async def test_message_of_a_killed_reader_goes_to_the_next(prefix: str, spawn: Spawn) -> None:
    """The dead one was asleep, and would have been woken for it."""
    layer = layer_of(prefix)
    dead = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    dead.ready()
    living = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    living.ready()
    dead.kill()
    reply = await layer.new_channel()
    begin = time.monotonic()
    await layer.send("work", {"n": 1, "reply": reply})
    assert await receive(layer, reply) == 1
    assert time.monotonic() - begin < 1
    await layer.send("work", {"n": 1, "reply": ""})
    assert living.result() == 1


async def storm(parent: Parent, prefix: str, number: int) -> int:
    """Sends, receives, joins and leaves without a pause, until asked to stop. Returns how many it received."""
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())  # memory may well run out
    layer = layer_of(prefix, capacity=50)
    stop = asyncio.create_task(asyncio.to_thread(parent.receive))
    random_ = random.Random(number)
    received = 0
    own = await layer.new_channel()
    await layer.group_add("storm", own)

    async def read(channel: str) -> None:
        nonlocal received
        while True:
            await layer.receive(channel)
            received += 1

    reading = [asyncio.create_task(read(channel)) for channel in ("storm.a", "storm.b", own)]
    parent.ready()
    while not stop.done():
        try:
            payload = {"n": number, "x": "x" * random_.choice([1, 100, 1000, 70_000])}
            await layer.send(random_.choice(["storm.a", "storm.b"]), payload)
            if random_.random() < 0.1:
                await layer.group_send("storm", payload)
            if random_.random() < 0.1:
                extra = await layer.new_channel()
                await layer.group_add("storm", extra)
                await layer.group_discard("storm", extra)
        except layer.ChannelFull:
            pass
        await turns()
    await cancelled(*reading)
    return received


def test_kills_in_a_storm(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    async_to_sync(layer.new_channel)()
    survivors = [spawn("tests.ipc.test_death:storm", prefix, n) for n in range(2)]
    victims = [spawn("tests.ipc.test_death:storm", prefix, n) for n in range(10, 14)]
    for process in (*survivors, *victims):
        process.ready()
    for victim in victims:
        block_any_moment(0.2)
        victim.kill(signal.SIGKILL)
        check(layer)
    before = probe(layer).core.counters()[1]
    block_until(lambda: probe(layer).core.counters()[1] > before, "the others receive")
    for process in survivors:
        process.send("stop")
    for process in survivors:
        assert process.result() > 0

    def is_tidy() -> bool:
        async_to_sync(layer.send)("look", {"n": 1})
        async_to_sync(layer.receive)("look")
        return check(layer)["pairs"] == 0

    block_until(is_tidy, "no membership is left", 3)
    with flushed(layer):
        assert alive(layer) == 1
    after = check(layer)
    ours = 2  # blocks of the inbox, whose name does not fit into one
    assert (after["channels"] - 1, after["messages"], after["blocks"] - after["free"]) == (0, 0, ours)


# The lock


def lock_often(parent: Parent, prefix: str) -> None:
    """In the lock for most of the time: flush walks over all buckets."""
    layer = layer_of(prefix, message_memory=200 << 20)
    core = probe(layer).core
    parent.ready(os.getpid())
    while True:
        try:
            core.flush()
        except _core.Busy:
            pass


def stop_in_the_lock(holder: Process, core: Any) -> None:
    """Stop the process while it has the lock."""
    slot = next(slot for slot, _, pid, _ in core.processes() if pid == holder.pid)
    for _ in range(500):
        holder.pause()
        if (core.lock_word >> 1 & 0x7FF) - 1 == slot:
            return
        holder.resume()
        block_any_moment(0.003)
    raise AssertionError("it was never met in the lock")


@pytest.fixture
def holder(prefix: str, spawn: Spawn) -> Process:
    process = spawn("tests.ipc.test_death:lock_often", prefix)
    process.ready()
    return process


def test_killed_lock_holder(prefix: str, holder: Process) -> None:
    layer = layer_of(prefix, message_memory=200 << 20)
    core = probe(layer).core
    stop_in_the_lock(holder, core)
    rebuilds = core.rebuilds
    holder.kill()
    begin = time.monotonic()
    async_to_sync(layer.send)("a", {"n": 1})
    assert time.monotonic() - begin < 0.5
    assert core.rebuilds == rebuilds + 1
    assert async_to_sync(layer.receive)("a") == {"n": 1}
    check(layer)


async def test_a_new_channel_waits_for_the_lock(prefix: str, holder: Process) -> None:
    """Each time: not once after a wait and once without."""
    layer = layer_of(prefix, message_memory=200 << 20)
    core = probe(layer).core
    with probe(layer).after_each_call(partial(asyncio.to_thread, stop_in_the_lock, holder, core)):
        assert await layer.new_channel()
    await asyncio.to_thread(holder.resume)
    await asyncio.to_thread(holder.kill)


def is_tidy(layer: IPCChannelLayer, before: dict[str, int]) -> bool:
    """Nothing is there that was not there before, for a process that sends and receives."""
    async_to_sync(layer.send)("look", {"n": 1})
    async_to_sync(layer.receive)("look")
    now = check(layer)
    return alive(layer) == 1 and now["channels"] <= before["channels"] and not now["members"]


def test_many_short_lives_leave_nothing(prefix: str, spawn: Spawn) -> None:
    """Half of them are killed."""
    layer = layer_of(prefix)
    async_to_sync(layer.new_channel)()
    before = check(layer)
    assert spawn("tests.ipc.test_death:fork_and_die", prefix, 60).result() is None
    block_until(partial(is_tidy, layer, before), "nothing is left of the dead", 3)
    after = check(layer)
    assert after["blocks"] - after["free"] == before["blocks"] - before["free"]
    assert after["blocks"] < 2500
    del layer
    assert is_clean(prefix) or not doorbells(prefix)


def fork_and_die(parent: Parent, prefix: str, number: int) -> None:
    for n in range(number):
        pid = os.fork()
        if pid == 0:
            layer = layer_of(prefix)

            async def main(layer: Any = layer) -> None:
                own = await layer.new_channel()
                await layer.group_add("g", own)
                await layer.send(own, {"n": 1})
                await layer.send("a", {"n": 1})
                await layer.receive("a")

            asyncio.run(main())
            if n % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            probe(layer).segment.close()
            os._exit(0)
        os.waitpid(pid, 0)
