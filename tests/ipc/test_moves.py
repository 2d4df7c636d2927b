"""A segment that is lost under living processes: they move to a new one, or attach again."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hybrid_layer.ipc import IPCChannelLayer, _core
from hybrid_layer.names import local, non_local
from tests.ipc.damaging import PAGE, writable
from tests.ipc.tools import (
    alive,
    check,
    directory_path,
    doorbells,
    inode_of,
    is_clean,
    layer_of,
    others_fall_asleep,
    receive,
    remove_segment,
    segment_path,
    waiting_member,
)
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import at_rest, cancelled, outlive, receiving, wait_until

_EPOCH_OF_ONE = (2 * 0x9E3779B1 & 0xFFFFFFFF) << 32 | 1
"""The word that says that the segment is in its first epoch: see epochs.h."""


async def serve(parent: Parent, prefix: str) -> list[Any]:
    """Waits on a normal channel and on its own, a member of a group; hands back what came until None."""
    import logging

    from tests.contract.peers import Warnings

    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)
    layer = layer_of(prefix)
    own = await layer.new_channel()
    await layer.group_add("group", own)
    got: list[Any] = []

    async def read(channel: str) -> None:
        while (n := (await layer.receive(channel))["n"]) is not None:
            got.append(n)
            parent.send(n)

    reading = asyncio.gather(read(own), read("normal"))
    await at_rest(layer, own, "normal")
    parent.ready(own)
    await reading
    return warnings.texts


def test_leaving_what_was_removed_makes_nothing_anew(prefix: str, spawn: Spawn) -> None:
    assert spawn("tests.ipc.test_moves:leave_what_was_removed", prefix).result() is None
    assert is_clean(prefix)


async def leave_what_was_removed(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)
    await layer.send("a", {"n": 1})
    remove_segment(prefix, also="all")


def members(layer: IPCChannelLayer) -> int:
    """-1: the segment is being replaced."""
    try:
        return check(layer)["members"]
    except _core.Retired:
        return -1


@pytest.mark.parametrize("what", ["segment", "all", "twice"])
async def test_removed_under_living_processes(
    prefix: str, spawn: Spawn, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    layer = layer_of(prefix)
    _, waiting = await waiting_member(layer)
    others = [spawn("tests.ipc.test_moves:serve", prefix) for _ in range(2)]
    names = [await asyncio.to_thread(other.ready) for other in others]
    for _ in range(2 if what == "twice" else 1):
        old = inode_of(prefix)
        remove_segment(prefix, also=what)
        await wait_until(
            lambda old=old: inode_of(prefix) not in (0, old) and alive(layer) == 3, "all three have moved", 3
        )
    await wait_until(lambda: members(layer) == 3, "all are members again", 2)
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
    assert sum("was lost" in record.getMessage() for record in caplog.records) == 1


async def test_messages_are_prompt_after_a_move(prefix: str, spawn: Spawn) -> None:
    """Doorbells work in the new segment: no reader waits for housekeeping."""
    layer = layer_of(prefix)
    reply = await layer.new_channel()
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    await asyncio.to_thread(other.ready)
    old = inode_of(prefix)
    remove_segment(prefix)
    waiting = asyncio.create_task(layer.receive(reply))
    await wait_until(lambda: inode_of(prefix) not in (0, old) and alive(layer) == 2, "both have moved", 3)
    await cancelled(waiting)
    await wait_until(lambda: doorbells(prefix), "the other one can be rung")
    await round_trips(layer, "work", reply)
    await layer.send("work", {"n": 1, "reply": ""})
    assert await asyncio.to_thread(other.result) > 0


async def round_trips(layer: Any, channel: str, reply: str) -> None:
    loop = asyncio.get_running_loop()
    times = []
    for n in range(20):
        await others_fall_asleep()
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
        probe(layer).housekeeping_is_due()
        await layer.send("a", {"n": 2})
        assert inode_of(prefix) not in (0, old)
        assert await receive(layer, "a") == 2

    run(main())
    check(layer)


def collect_while_moving(parent: Parent, prefix: str) -> None:
    import logging

    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layers = [layer_of(prefix)]
    run(layers[0].send("a", {"n": 1}))
    segment = probe(layers[0]).segment
    remove_segment(prefix)
    with probe(layers[0]).before_a_move(layers.clear):
        assert segment.recover_if_lost()
        assert segment.users == 0
    assert not segment.is_own()


def test_layer_collected_while_moving(prefix: str, spawn: Spawn) -> None:
    """The collector may free the last layer object at any moment, and then the segment is left after the move."""
    assert spawn("tests.ipc.test_moves:collect_while_moving", prefix).result() is None
    assert is_clean(prefix)


class Meanwhile:
    """The core, with something that another thread does just before the next membership is added."""

    def __init__(self, core: _core.Segment, action: Callable[[], None]) -> None:
        self._core = core
        self._action: Callable[[], None] | None = action

    def group_restore(self, *args: Any) -> None:
        action, self._action = self._action, None
        if action is not None:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(action).result()
        self._core.group_restore(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


async def test_a_system_that_refuses_a_move_is_asked_again(
    prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has no more record locks to give, say. A receiver gets no error, and keeps waiting."""
    layer = layer_of(prefix)
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    own, waiting = await waiting_member(layer)
    segment = probe(layer).segment
    core = segment.core

    def refused(*_: object) -> _core.Segment:
        monkeypatch.undo()
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    probe(layer).fail_to_attach(monkeypatch, refused)
    remove_segment(prefix)
    await wait_until(lambda: segment.core is not core, "the process has attached anew", 5)
    await layer.send(own, {"n": 1})
    assert (await asyncio.wait_for(waiting, 2))["n"] == 1
    assert not failed
    assert any("Cannot move" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("how", ["ended", "renewed"])
def test_membership_changed_while_it_is_restored(prefix: str, how: str) -> None:
    """What another thread does counts, not what the restoring one has read before."""
    layer = layer_of(prefix, group_expiry=0.5)
    own = run(layer.new_channel())
    run(layer.group_add("group", own))
    segment = probe(layer).segment
    core = segment.core
    membership = ("group", non_local(own), local(own))

    def change() -> None:  # as `LocalTransport` does it
        if how == "ended":
            probe(layer).forget("group", own)
            core.group_discard(*membership)
        else:
            core.group_join(*membership, 100 * 10**9, _core.REMOTE_SHARDS)
            probe(layer).remember("group", own, time.monotonic() + 100)

    segment.core = Meanwhile(core, change)
    try:
        assert probe(layer).restore()
    finally:
        segment.core = core
    if how == "ended":
        assert check(layer)["members"] == 0
    else:
        run(outlive(0.5))  # what it had at first
        run(layer.group_send("group", {"n": 1}))
        assert run(receive(layer, own)) == 1


async def test_doorbell_removed(prefix: str, spawn: Spawn) -> None:
    """By a cleaner of old files, say. It is made again."""
    layer = layer_of(prefix)
    reply = await layer.new_channel()
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    await asyncio.to_thread(other.ready)
    await layer.send("work", {"n": 0, "reply": reply})
    assert await receive(layer, reply) == 0
    for name in doorbells(prefix):
        (directory_path(prefix) / name).unlink()
    await layer.send("work", {"n": 1, "reply": reply})
    assert await receive(layer, reply, 2) == 1
    await wait_until(lambda: doorbells(prefix), "the doorbell is made anew")
    await round_trips(layer, "work", reply)
    await layer.send("work", {"n": 1, "reply": ""})
    await asyncio.to_thread(other.result)


async def test_inbox_lost_to_damage(prefix: str) -> None:
    """A repair has cut it off: it is opened again, and its memberships are restored."""
    layer = layer_of(prefix)
    own, waiting = await waiting_member(layer)
    probe(layer).core.close_inbox(own.partition("!")[0] + "!")
    assert check(layer)["members"] == 0
    probe(layer).notice_a_repair()
    await wait_until(lambda: check(layer)["members"] == 1, "it is a member again", 2)
    await layer.group_send("group", {"n": 1})
    assert (await asyncio.wait_for(waiting, 2))["n"] == 1


@pytest.mark.parametrize("byte", [0, 1, 5])
async def test_a_damaged_epoch_is_no_flush(prefix: str, byte: int) -> None:
    """Memberships that a repair has cut off are restored all the same."""
    layer = layer_of(prefix)
    own, waiting = await waiting_member(layer)
    core = probe(layer).core
    epoch = core.epoch
    with writable(segment_path(prefix)) as memory:
        at = memory.find(_EPOCH_OF_ONE.to_bytes(8, "little"), 0, PAGE)
        memory[at + byte] ^= 2
    assert core.epoch != epoch
    await layer.group_add("other", own)
    await lose_inbox(layer, own)
    assert check(layer)["members"] == 2
    await wait_until(lambda: core.epoch >> 32 == 0, "it is repaired")
    await layer.flush()
    await layer.group_add("third", own)
    await lose_inbox(layer, own)
    assert check(layer)["members"] == 1
    await layer.group_send("third", {"n": 1})
    assert (await asyncio.wait_for(waiting, 2))["n"] == 1


async def lose_inbox(layer: IPCChannelLayer, own: str) -> None:
    """To a repair, after which the process opens it again."""
    core = probe(layer).core
    core.close_inbox(non_local(own))
    probe(layer).notice_a_repair()
    await wait_until(lambda: core.look(0)[-1] == 1, "it is there again", 2)
    await wait_until(lambda: check(layer)["members"] > 0, "and its memberships", 2)


def test_nothing_is_left_after_a_move(prefix: str, spawn: Spawn) -> None:
    assert spawn("tests.ipc.test_moves:move_and_leave", prefix).result() is None
    assert is_clean(prefix)


async def move_and_leave(parent: Parent, prefix: str) -> None:
    import logging

    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layer = layer_of(prefix)
    own = await layer.new_channel()
    (waiting,) = await receiving(layer, own)
    old = inode_of(prefix)
    remove_segment(prefix)
    await wait_until(lambda: inode_of(prefix) not in (0, old), "there is another segment", 2)
    await layer.send(own, {"n": 1})
    assert (await asyncio.wait_for(waiting, 2))["n"] == 1
