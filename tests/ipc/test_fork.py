"""Forks of a process that uses a segment: the child takes a place of its own and leaves its parent's alone."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import threading
import time
from pathlib import Path

import pytest

from hybrid_layer.ipc import IPCChannelLayer
from tests.ipc.tools import alive, check, doorbells, is_clean, layer_of, others_fall_asleep, receive
from tests.support.forked import fork, wait_for
from tests.support.loops import LoopKind
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import cancelled, receiving


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_child_leaves_its_parents_doorbell_alone(prefix: str, spawn: Spawn, loop: LoopKind) -> None:
    layer = layer_of(prefix)
    parent = spawn("tests.ipc.test_fork:fork_while_waiting", prefix, loop=loop)

    async def main() -> None:
        name = await asyncio.to_thread(parent.ready)
        reply = await layer.new_channel()
        times = []
        for n in range(15):
            await others_fall_asleep()
            begin = time.monotonic()
            await layer.send(name, {"n": n, "reply": reply})
            assert await receive(layer, reply) == n
            times.append(time.monotonic() - begin)
        assert sorted(times)[10] < 0.1, times  # rung, not found when it looked around
        await layer.send(name, {"n": 0, "reply": ""})
        await asyncio.to_thread(parent.result)

    asyncio.run(main())
    assert alive(layer) == 1
    check(layer)


async def fork_while_waiting(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)
    own = await layer.new_channel()
    waiting, normal = await receiving(layer, own, "normal")
    bells = doorbells(prefix)
    slot = probe(layer).core.slot

    def child() -> None:
        async def main() -> None:
            channel = await layer.new_channel()
            await layer.send(channel, {"n": 1})
            assert await receive(layer, channel) == 1
            assert probe(layer).core.slot != slot

        # A thread's own loop: this one counts as running here.
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        thread.join()
        probe(layer).segment.close()

    wait_for(fork(child))
    assert doorbells(prefix) == bells
    assert probe(layer).core.lost() is None
    parent.ready(own)
    while (message := await waiting)["reply"]:
        await layer.send(message["reply"], {"n": message["n"]})
        waiting = asyncio.create_task(layer.receive(own))
    await cancelled(normal)


def test_child_that_closes_all_descriptors(prefix: str, spawn: Spawn) -> None:
    """As daemons do; then it opens files of its own under the old numbers."""
    assert spawn("tests.ipc.test_fork:daemons", prefix).result() is None
    assert is_clean(prefix)


def daemons(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)
    asyncio.run(layer.send("before", {"n": "before"}))
    core = probe(layer).core

    for opens_others in (False, True):

        def child(opens_others: bool = opens_others) -> None:
            os.closerange(3, 1000)
            if opens_others:
                for _ in range(50):
                    os.open("/dev/null", os.O_RDWR)
            asyncio.run(layer.send("daemon", {"n": opens_others}))
            probe(layer).segment.close()

        wait_for(fork(child))
        assert core.lost() is None

    async def main() -> None:
        assert await receive(layer, "before") == "before"
        assert [await receive(layer, "daemon") for _ in range(2)] == [False, True]

    asyncio.run(main())
    assert alive(layer) == 1


def test_descriptors_that_replace_an_open_doorbell(prefix: str, spawn: Spawn) -> None:
    """What others open under the number of a doorbell that was rung before is neither written to nor closed."""
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    other.ready()
    assert spawn("tests.ipc.test_fork:reuse_the_number_of_a_doorbell", prefix).result() is None
    assert other.result() == 3
    assert is_clean(prefix)


async def reuse_the_number_of_a_doorbell(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)
    reply = await layer.new_channel()
    pipe = os.pipe()

    async def ring(n: int) -> int:
        await others_fall_asleep()
        await layer.send("work", {"n": n, "reply": reply})
        assert await receive(layer, reply) == n
        [bell] = [int(fd) for fd in os.listdir("/proc/self/fd") if is_foreign_bell(layer, fd)]
        return bell

    bell = await ring(0)

    def child() -> None:
        """A daemon."""
        kept = os.dup2(pipe[1], 900)
        os.closerange(3, 900)
        while (last := os.dup(kept)) < bell:
            pass
        assert last == bell

        def send() -> None:
            asyncio.run(layer.send("work", {"n": 1, "reply": reply}))

        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        assert os.fstat(bell).st_ino == os.fstat(kept).st_ino

    wait_for(fork(child))
    assert await receive(layer, reply) == 1

    os.dup2(pipe[1], bell)
    assert await ring(2) != bell
    assert os.fstat(bell).st_ino == os.fstat(pipe[1]).st_ino
    os.set_blocking(pipe[0], False)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)
    for end in (bell, *pipe):
        os.close(end)
    await layer.send("work", {"n": 0, "reply": ""})


def is_foreign_bell(layer: IPCChannelLayer, fd: str) -> bool:
    """Whether it is the doorbell of another process."""
    segment = probe(layer).segment
    try:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
    except FileNotFoundError:  # that of the listing
        return False
    own = f"{segment.core.slot}."
    return path.parent == segment.directory and path.name[0].isdigit() and not path.name.startswith(own)


def test_child_that_does_not_use_the_layer(prefix: str, spawn: Spawn) -> None:
    assert spawn("tests.ipc.test_fork:idle_children", prefix).result() is None
    assert is_clean(prefix)


def idle_children(parent: Parent, prefix: str) -> None:
    """They inherit all and end in every way; the parent keeps its place."""
    layer = layer_of(prefix)
    asyncio.run(layer.send("a", {"n": 1}))

    def collect() -> None:
        nonlocal layer
        del layer
        gc.collect()

    for child in (lambda: None, lambda: os.closerange(3, 1000), collect, atexit._run_exitfuncs):
        wait_for(fork(child))
        assert probe(layer).core.lost() is None
        assert alive(layer) == 1

    assert asyncio.run(receive(layer, "a")) == 1


def test_grandchildren(prefix: str, spawn: Spawn) -> None:
    assert spawn("tests.ipc.test_fork:generations", prefix).result() is None
    assert is_clean(prefix)


def generations(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)

    def use(depth: int) -> None:
        async def main() -> None:
            own = await layer.new_channel()
            await layer.send(own, {"n": depth})
            assert await receive(layer, own) == depth

        asyncio.run(main())
        if depth < 3:
            wait_for(fork(lambda: use(depth + 1)))
            asyncio.run(main())
            assert probe(layer).core.lost() is None
        if depth:
            probe(layer).segment.close()

    use(0)
    assert alive(layer) == 1


def test_child_with_a_layer_object_of_its_own(prefix: str, spawn: Spawn) -> None:
    """It shares the attachment that was inherited, and takes a place of its own with the first call."""
    assert spawn("tests.ipc.test_fork:another_layer", prefix).result() is None
    assert is_clean(prefix)


def another_layer(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)
    core = probe(layer).core

    def child() -> None:
        another = layer_of(prefix)

        async def main() -> None:
            own = await another.new_channel()
            await another.send(own, {"n": 1})
            assert await receive(another, own) == 1

        asyncio.run(main())
        probe(another).segment.close()

    wait_for(fork(child))
    assert core.lost() is None
    assert alive(layer) == 1
