"""Segments that are overwritten, removed or cut off while several processes use them.

A call may fail with `SegmentDamaged`; it does not hang, crash, or end with any other error. Afterwards everything
works: the channels and memberships of the living are what they were.
"""

from __future__ import annotations

import os
import random
import secrets
import time

import pytest

from hybrid_layer.exceptions import SegmentDamaged
from hybrid_layer.ipc import IPCChannelLayer, _core
from hybrid_layer.ipc.machine import LocalMachine
from tests.ipc.damaging import PAGE, Users, damage, writable
from tests.ipc.tools import (
    check,
    inode_of,
    layer_of,
    receive,
    remove_segment,
    segment_path,
)
from tests.support.loops import run
from tests.support.probe import probe, sends, set_sends
from tests.support.processes import Spawn
from tests.support.waiting import block_any_moment, block_until, wait_until


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
def test_random_bytes(prefix: str, spawn: Spawn, is_busy: bool) -> None:
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**9))
    rng = random.Random(seed)
    users = Users(spawn, prefix, 3, seed)
    what = "nothing"
    try:
        users.await_recovery(10)
        for _ in range(15):
            users.set_busy(is_busy)
            block_any_moment(0.06, rng)
            what = damage(segment_path(prefix), rng)
            users.set_busy(False)
            users.await_recovery(10)
        stories = users.end()
    except BaseException as error:
        error.add_note(f"SEED={seed}, after {what}")
        raise
    for story in stories:
        assert story["unexpected"] == [], f"SEED={seed}"
        assert story["slowest"][0] < 4, f"SEED={seed}"  # 2 s, and a busy machine
        assert set(story["errors"]) <= {"ChannelFull", "SegmentDamaged"}, f"SEED={seed}"


def test_header(prefix: str, spawn: Spawn) -> None:
    """What never changes is sealed: one damaged byte in it, and all move. Newcomers are not misled."""
    users = Users(spawn, prefix, 2)
    users.await_recovery(10)
    for at in (0, 9, 16, 24, 32, 48, 60, 130, 320):
        inode = inode_of(prefix)
        with writable(segment_path(prefix)) as memory:
            memory[at] ^= 0x5A
        block_until(lambda inode=inode: inode_of(prefix) != inode, f"the segment is replaced, damaged at {at}", 3)
        users.await_recovery(10)
    for story in users.end():
        assert story["unexpected"] == []
        assert any("was lost" in text for text in story["warnings"])


def test_again_and_again(prefix: str, spawn: Spawn) -> None:
    """A program that keeps writing into a segment is left alone with it."""
    users = Users(spawn, prefix, 1)
    users.await_recovery(10)
    inode = inode_of(prefix)
    for _ in range(10):
        with writable(segment_path(prefix)) as memory:
            for at in range(64 * PAGE, len(memory), PAGE):  # behind the slots
                if memory[at : at + PAGE] != bytes(PAGE):
                    memory[at : at + PAGE] = b"\xaa" * PAGE
        users.await_recovery(10)
        time.sleep(0.3)  # longer than between two looks: at the next one they may move, or not
        if inode_of(prefix) != inode:
            break
    else:
        raise AssertionError("still there")
    (story,) = users.end()
    assert story["unexpected"] == []
    assert any("was repaired" in text and "counted as damaged" in text for text in story["warnings"])
    assert any("again and again" in text for text in story["warnings"])


async def test_marked_as_retired_by_mistake(prefix: str) -> None:
    """No byte of garbage sends anybody away."""
    layer = layer_of(prefix)
    await layer.send("a", {"n": 1})
    core = probe(layer).core
    assert not core.retired
    assert core.retire() == 1
    assert core.retire() is None
    assert core.retired
    await layer.send("a", {"n": 2})
    assert probe(layer).core is not core


@pytest.mark.parametrize("kind", ["normal", "own"])
def test_large_payload_that_cannot_be_read(prefix: str, kind: str) -> None:
    """Its chain leads nowhere. It is counted as lost, and nothing that was taken out of the queue with it."""
    layer = layer_of(prefix)

    async def main() -> None:
        channel = await layer.new_channel() if kind == "own" else "normal"
        await layer.send(channel, {"n": 1})
        await layer.send(channel, {"n": 2, "body": "y" * 100_000})
        await layer.send(channel, {"n": 3})
        with writable(segment_path(prefix)) as memory:
            at = memory.find(b"y" * 30)
            while memory[at] == ord("y"):
                at += 1
            memory[at : at + 4] = b"\xff" * 4  # where the next block of the message is
        assert [await receive(layer, channel) for _ in range(2)] == [1, 3]
        assert (await layer.statistics())["damaged"] == 1

    run(main())
    check(layer)


# Removed


@pytest.mark.parametrize("what", ["all", "segment"])
def test_removed_under_the_living(prefix: str, spawn: Spawn, what: str) -> None:
    """As systemd's RemoveIPC does it: waiting processes have a new one with the next housekeeping, 250 ms."""
    users = Users(spawn, prefix, 3)
    users.await_recovery(10)
    times = []
    for _ in range(5):
        remove_segment(prefix, what)
        times.append(block_until(lambda: inode_of(prefix) != 0, "there is another segment", 5))
        users.await_recovery(10)
    assert sorted(times)[2] < 0.5, times  # 0.25, and a busy machine
    for story in users.end():
        assert story["unexpected"] == []
        assert any("RemoveIPC" in text or "another process" in text for text in story["warnings"])


def test_messages_lost_are_counted_once(prefix: str, spawn: Spawn, caplog: pytest.LogCaptureFixture) -> None:
    layer = layer_of(prefix)
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    other.ready()

    async def main() -> None:
        own = await layer.new_channel()
        await layer.group_add("group", own)
        for n in range(5):
            await layer.send("jobs", {"n": n})
        await layer.send(own, {"n": "lost"})
        await layer.group_send("group", {"n": "lost, too"})
        machine = LocalMachine(probe(layer).local, keeps=lambda channel: True)
        name = await machine.id()
        remove_segment(prefix)
        await wait_until(segment_path(prefix).exists, "the other one has made a segment", 5)
        probe(layer).housekeeping_is_due()  # the other one was there first
        await layer.send("work", {"n": 1, "reply": own})
        assert await receive(layer, own) == 1
        assert (await layer.statistics())["damaged"] == 7
        await layer.group_send("group", {"n": "still a member"})
        assert await receive(layer, own) == "still a member"
        assert await machine.id() == name
        assert probe(layer).core.machine == name
        assert machine.has_groups()
        await layer.send("work", {"n": 1, "reply": ""})

    run(main())
    assert other.result() == 1
    assert check(layer)["members"] == 1


async def test_lost_messages_are_told(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    layer = layer_of(prefix)
    for n in range(5):
        await layer.send("jobs", {"n": n})
    remove_segment(prefix)
    probe(layer).housekeeping_is_due()
    await layer.send("jobs", {"n": 6})
    assert (await layer.statistics())["damaged"] == 5
    assert await receive(layer, "jobs") == 6
    (text,) = [record.getMessage() for record in caplog.records if "was lost" in record.getMessage()]
    for part in (repr(prefix), "RemoveIPC", "lost: 5, counted as damaged"):
        assert part in text


# What the transport does when the core reports damage


async def test_a_send_that_meets_damage_is_not_repeated(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of it may have arrived; what is idempotent is tried again."""
    calls = []

    class Damaging:
        """The core's operations, of which each first one meets damage."""

        @staticmethod
        def group_send(core: _core.Segment, *args: object) -> tuple[int, int]:
            calls.append("group_send")
            raise _core.Damaged

        @staticmethod
        def group_add(core: _core.Segment, *args: object) -> None:
            calls.append("group_add")
            if calls.count("group_add") == 1:
                raise _core.Damaged

    layer = IPCChannelLayer(prefix=prefix)
    await layer.send("channel", {})
    assert {_core.Segment.push, _core.Segment.group_send} <= set(sends())
    set_sends(monkeypatch, (Damaging.group_send,))
    with pytest.raises(SegmentDamaged, match="may be lost"):
        await probe(layer).call(Damaging.group_send)
    await probe(layer).call(Damaging.group_add)
    await layer.flush()
    assert calls == ["group_send", "group_add", "group_add"]
