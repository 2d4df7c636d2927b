"""A segment that is lost under living processes: they move to a new one, or attach anew."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from typing import Any

import pytest

from hybrid_layer.exceptions import SegmentDamaged
from hybrid_layer.ipc import _core, objects
from tests.ipc.tools import (
    alive,
    check,
    directory_path,
    doorbells,
    eventually,
    flushed,
    inode_of,
    is_clean,
    layer_of,
    receive,
    remove_segment,
    segment_of,
)
from tests.loops import run
from tests.process_main import Parent
from tests.processes import Process

Spawn = Callable[..., Process]


async def serve(parent: Parent, prefix: str) -> list[Any]:
    """Waits on a normal channel and on its own, a member of a group; hands back what came until None."""
    import logging

    from tests.contract.peers import Warnings

    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)
    layer = layer_of(prefix)
    own = await layer.new_channel()
    await layer.group_add("group", own)
    parent.ready(own)
    got: list[Any] = []

    async def read(channel: str) -> None:
        while (n := (await layer.receive(channel))["n"]) is not None:
            got.append(n)
            parent.send(n)

    await asyncio.gather(read(own), read("normal"))
    return warnings.texts


def test_leaving_what_was_removed_makes_nothing_anew(prefix: str, spawn: Spawn) -> None:
    assert spawn("tests.ipc.test_moves:leave_what_was_removed", prefix).result() is None
    assert is_clean(prefix)


async def leave_what_was_removed(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)
    await layer.send("a", {"n": 1})
    remove_segment(prefix, also="all")


@pytest.mark.parametrize("what", ["segment", "all", "twice"])
def test_removed_under_living_processes(prefix: str, spawn: Spawn, what: str, caplog: pytest.LogCaptureFixture) -> None:
    layer = layer_of(prefix)

    async def main() -> None:
        own = await layer.new_channel()
        await layer.group_add("group", own)
        waiting = asyncio.create_task(layer.receive(own))
        others = [spawn("tests.ipc.test_moves:serve", prefix) for _ in range(2)]
        names = [await asyncio.to_thread(other.ready) for other in others]
        await asyncio.sleep(0.05)
        for _ in range(2 if what == "twice" else 1):
            old = inode_of(prefix)
            remove_segment(prefix, also=what)
            await eventually(lambda old=old: inode_of(prefix) not in (0, old) and alive(layer) == 3, 3)
        await asyncio.sleep(0.3)
        assert check(layer)["members"] == 3
        await layer.group_send("group", {"n": "to all"})
        assert (await asyncio.wait_for(waiting, 2))["n"] == "to all"
        for other, name in zip(others, names, strict=True):
            assert await asyncio.to_thread(other.receive) == "to all"
            await layer.send(name, {"n": "to one"})
            assert await asyncio.to_thread(other.receive) == "to one"
        assert len(doorbells(prefix)) == 3
        for name in names:
            await layer.send("normal", {"n": None})
            await layer.send(name, {"n": None})
        for other in others:
            warnings = await asyncio.to_thread(other.result)
            assert sum("was lost" in text for text in warnings) == 1

    run(main())
    assert sum("was lost" in record.getMessage() for record in caplog.records) == 1


def test_messages_are_prompt_after_a_move(prefix: str, spawn: Spawn) -> None:
    """Doorbells work in the new segment: nobody waits for a look around."""
    layer = layer_of(prefix)

    async def main() -> None:
        reply = await layer.new_channel()
        other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
        await asyncio.to_thread(other.ready)
        old = inode_of(prefix)
        remove_segment(prefix)
        waiting = asyncio.create_task(layer.receive(reply))
        await eventually(lambda: inode_of(prefix) not in (0, old) and alive(layer) == 2, 3)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(0.3)
        await round_trips(layer, "work", reply)
        await layer.send("work", {"n": 1, "reply": ""})
        assert await asyncio.to_thread(other.result) > 0

    run(main())


async def round_trips(layer: Any, channel: str, reply: str) -> None:
    loop = asyncio.get_running_loop()
    times = []
    for n in range(20):
        await asyncio.sleep(0.01)  # so that the other one sleeps
        begin = loop.time()
        await layer.send(channel, {"n": n, "reply": reply})
        assert await receive(layer, reply) == n
        times.append(loop.time() - begin)
    assert sorted(times)[10] < 0.05, times


def test_sender_alone_notices(prefix: str) -> None:
    layer = layer_of(prefix)

    async def main() -> None:
        await layer.send("a", {"n": 1})
        old = inode_of(prefix)
        remove_segment(prefix)
        await asyncio.sleep(1.1)
        await layer.send("a", {"n": 2})
        assert inode_of(prefix) not in (0, old)
        assert await receive(layer, "a") == 2

    run(main())
    check(layer)


def close_descriptors(parent: Parent, prefix: str, how: str) -> list[str]:
    """Some code of this process closes descriptors that are not its own, once with other files opened instead."""
    import logging

    from tests.contract.peers import Warnings

    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)
    layer = layer_of(prefix)

    async def main() -> None:
        own = await layer.new_channel()
        await layer.group_add("group", own)
        waiting = asyncio.create_task(layer.receive(own))
        await asyncio.sleep(0.05)
        path = str(objects.lock_bearer(segment_of(layer).name))
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
        assert segment_of(layer).core.lost() is None

    asyncio.run(main())
    return warnings.texts


def link(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("how", ["closed", "replaced", "another of the same file"])
def test_descriptors_closed_by_others(prefix: str, spawn: Spawn, how: str) -> None:
    """The process attaches anew, to the same segment, which stays in use by the others."""
    layer = layer_of(prefix)

    async def main() -> None:
        await layer.send("kept", {"n": "kept"})
        other = spawn("tests.ipc.test_moves:close_descriptors", prefix, how)
        inode = inode_of(prefix)
        name = await asyncio.to_thread(other.ready)
        await asyncio.sleep(0.8)
        other.send(None)
        await layer.send(name, {"n": 1})
        warnings = await asyncio.to_thread(other.result)
        assert len(warnings) == (0 if how == "another of the same file" else 1), warnings
        assert inode_of(prefix) == inode
        assert await receive(layer, "kept") == "kept"

    run(main())
    check(layer)
    assert alive(layer) == 1
    with flushed(layer):
        pass


def collect_while_moving(parent: Parent, prefix: str) -> None:
    import logging

    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layers = [layer_of(prefix)]
    run(layers[0].send("a", {"n": 1}))
    segment = segment_of(layers[0])
    give_up = segment._damage.give_up

    def collect(core: _core.Segment, reason: str) -> bool:
        layers.clear()
        return give_up(core, reason)

    segment._damage.give_up = collect  # type: ignore[method-assign]
    remove_segment(prefix)
    assert segment.recover_if_lost()
    assert segment.users == 0
    assert not segment.is_own()


def test_layer_collected_while_moving(prefix: str, spawn: Spawn) -> None:
    """The collector may free the last layer object at any moment, and then the segment is left after the move."""
    assert spawn("tests.ipc.test_moves:collect_while_moving", prefix).result() is None
    assert is_clean(prefix)


def send_without_descriptors(parent: Parent, prefix: str) -> None:
    import logging

    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layer = layer_of(prefix, message_memory=16 << 20)
    run(layer.send("work", {"n": 0}))
    parent.ready()
    parent.receive()
    os.close(segment_of(layer)._fd)
    sent = 0
    while sent < 3:
        try:
            run(layer.send("work", {"n": 0}))
            sent += 1
        except SegmentDamaged:
            continue  # this message may be lost, nobody else's
    parent.ready()
    parent.receive()


def test_closed_descriptors_cost_others_nothing(prefix: str, spawn: Spawn) -> None:
    """The segment has grown since, and who cannot ask for the new part does not repair what it cannot see."""
    layer = layer_of(prefix, message_memory=16 << 20, capacity=2000)
    run(layer.send("other", {"n": 0}))
    other = spawn("tests.ipc.test_moves:send_without_descriptors", prefix)

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
    with flushed(layer):
        pass


@pytest.mark.parametrize("how", ["closed", "replaced"])
def test_lock_file_closed_by_others(prefix: str, how: str) -> None:
    """Whoever leaves or attaches next neither stumbles over that nor closes what now has its number."""
    layer = layer_of(prefix)
    asyncio.run(layer.send("a", {"n": 1}))
    assert asyncio.run(layer.receive("a")) == {"n": 1}
    number = segment_of(layer)._lock_file.fd
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


def test_doorbell_removed(prefix: str, spawn: Spawn) -> None:
    """By a cleaner of old files, say. It is made anew."""
    layer = layer_of(prefix)

    async def main() -> None:
        reply = await layer.new_channel()
        other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
        await asyncio.to_thread(other.ready)
        await layer.send("work", {"n": 0, "reply": reply})
        assert await receive(layer, reply) == 0
        for name in doorbells(prefix):
            (directory_path(prefix) / name).unlink()
        await layer.send("work", {"n": 1, "reply": reply})
        assert await receive(layer, reply, 2) == 1
        await asyncio.sleep(0.6)
        assert doorbells(prefix)
        await round_trips(layer, "work", reply)
        await layer.send("work", {"n": 1, "reply": ""})
        await asyncio.to_thread(other.result)

    run(main())


def test_inbox_lost_to_damage(prefix: str) -> None:
    """A repair has cut it off: it is opened anew, and the memberships with it."""
    layer = layer_of(prefix)

    async def main() -> None:
        own = await layer.new_channel()
        await layer.group_add("group", own)
        waiting = asyncio.create_task(layer.receive(own))
        await asyncio.sleep(0.05)
        segment_of(layer).core.close_inbox(own.partition("!")[0] + "!")
        assert check(layer)["members"] == 0
        station = segment_of(layer).stations.get()
        station._rebuilds -= 1  # as after a repair
        station.settle_soon()
        await eventually(lambda: check(layer)["members"] == 1, 2)
        await layer.group_send("group", {"n": 1})
        assert (await asyncio.wait_for(waiting, 2))["n"] == 1

    run(main())


def test_nothing_is_left_after_a_move(prefix: str, spawn: Spawn) -> None:
    assert spawn("tests.ipc.test_moves:move_and_leave", prefix).result() is None
    assert is_clean(prefix)


def move_and_leave(parent: Parent, prefix: str) -> None:
    import logging

    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layer = layer_of(prefix)

    async def main() -> None:
        own = await layer.new_channel()
        waiting = asyncio.create_task(layer.receive(own))
        await asyncio.sleep(0.02)
        old = inode_of(prefix)
        remove_segment(prefix)
        await eventually(lambda: inode_of(prefix) not in (0, old), 2)
        await layer.send(own, {"n": 1})
        assert (await asyncio.wait_for(waiting, 2))["n"] == 1

    asyncio.run(main())
