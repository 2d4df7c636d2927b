"""An observer sees what is there, exactly, and leaves no trace: whatever it meets, and whatever happens to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from hybrid_layer.exceptions import SegmentBusy, SegmentNotFound
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.inventory import segments
from hybrid_layer.ipc.observer import WAIT_BOUNDS, Observer
from hybrid_layer.names import non_local
from tests.ipc.programs import Stopper
from tests.ipc.test_descriptors import open_descriptors
from tests.ipc.tools import (
    alive,
    check,
    directory_path,
    inode_of,
    is_clean,
    layer_of,
    receive,
    remove_segment,
    segment_path,
)
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import at_rest, cancelled, outlive, receiving, wait_until

DAMAGED = 396
"""Where `damaged` is in the header: see layout.h."""


async def be_a_site(parent: Parent, prefix: str) -> None:
    """A worker that waits on ``work``, and a consumer with two memberships and unread messages."""
    layer = layer_of(prefix, capacity=3)
    own = await layer.new_channel()
    for group in ("g", "h"):
        await layer.group_add(group, own)
    waiting = await receiving(layer, "work")
    await at_rest(layer, "work")
    parent.ready(own)
    await asyncio.to_thread(parent.receive)
    await cancelled(*waiting)
    await layer.close()


def look(parent: Parent, prefix: str) -> dict[str, Any]:
    """All that an observer tells, from a process without a layer."""
    with Observer(prefix) as observer:
        return {
            "areas": observer.areas(),
            "channels": {each.name: each for each in observer.channels()},
            "counts": observer.channel_counts(),
            "groups": observer.groups(),
            "members": [each.channel for each in observer.members("g")],
            "processes": {each.pid: each for each in observer.processes()},
            "peeked": observer.peek("full", body=True),
            "counters": observer.counters(),
            "waits": observer.waits(),
        }


async def test_everything_that_is_there(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix, capacity=3)
    site = spawn(be_a_site, prefix)
    own = await asyncio.to_thread(site.ready)
    await layer.group_add("g", "normal")
    await layer.group_send("g", {"n": 1})
    await layer.send(own, {"n": 2})
    for n in range(3):
        await layer.send("full", {"n": n, "body": "x" * (100_000 if n == 2 else 1)})
    with pytest.raises(layer.ChannelFull):
        await layer.send("full", {"n": 3})
    await layer.send("short", {"n": 4})
    await outlive(0.3)
    assert await receive(layer, "short") == 4
    files = sorted(directory_path(prefix).iterdir())
    seen = await asyncio.to_thread(spawn(look, prefix).result)
    assert sorted(directory_path(prefix).iterdir()) == files
    assert alive(layer) == 2

    channels, inbox = seen["channels"], non_local(own)
    pending = {name: (each.pending, each.waiting, each.was_read, each.capacity) for name, each in channels.items()}
    assert pending == {
        "normal": (1, 0, False, 3),
        "full": (3, 0, False, 3),
        "work": (0, 1, True, None),
        inbox: (2, 0, False, None),
    }
    assert all(0.3 <= each.oldest_age < 30 for each in channels.values() if each.pending)
    counts = {name: (each.sent, each.received, each.full) for name, each in seen["counts"].items()}
    assert counts == {"normal": (1, 0, 0), "full": (3, 0, 1), "short": (1, 1, 0), "": (0, 0, 0)}
    assert seen["groups"] == {"g": 2, "h": 1}
    assert sorted(seen["members"]) == sorted(["normal", own])
    theirs, mine = seen["processes"][site.pid], seen["processes"][os.getpid()]
    assert (theirs.inboxes, theirs.unread, theirs.waiting, theirs.members) == ((inbox,), 2, 1, 2)
    assert theirs.is_alive
    assert "python" in theirs.command
    assert (mine.inboxes, mine.unread, mine.waiting) == ((), 0, 0)
    assert [probe(layer).decoded(each.payload, "full")["n"] for each in seen["peeked"]] == [0, 1, 2]
    assert all(each.age >= 0.3 and each.left < 60 and not each.is_to_group for each in seen["peeked"])
    assert seen["peeked"][2].size > 100_000
    counters = {key: n for key, n in seen["counters"].items() if n}
    assert counters == {"sent": 7, "received": 1, "full": 1}
    waits = seen["waits"]
    assert sum(waits.counts) == 1
    assert waits.counts[sum(bound <= waits.total for bound in WAIT_BOUNDS)] == 1
    assert 0.3 <= waits.total < 30
    assert [area.limit for area in seen["areas"]] == [1 << 20, 1 << 18]
    assert seen["areas"][0].used <= seen["areas"][0].reserved <= seen["areas"][0].limit
    assert seen["areas"][0].used > 100_000
    assert [(await layer.receive("full"))["n"] for _ in range(3)] == [0, 1, 2], "nothing was taken"
    site.send(None)
    await asyncio.to_thread(site.result)


def look_for_traces(parent: Parent, prefix: str) -> bool:
    """Whether the segment, byte by byte, and its folder are as before, after an observer has looked at everything."""
    path, folder = segment_path(prefix), directory_path(prefix)
    before = path.read_bytes(), sorted(folder.iterdir())
    assert look(parent, prefix)["channels"]["a"].pending == 1
    segments()
    return (path.read_bytes(), sorted(folder.iterdir())) == before


async def test_no_trace(prefix: str, spawn: Spawn) -> None:
    """Not even the lock, so that nobody has to wait for it: each acquisition is counted in the segment."""
    layer = layer_of(prefix)
    await layer.send("a", {"n": 1})
    assert await asyncio.to_thread(spawn(look_for_traces, prefix).result)
    assert await receive(layer, "a") == 1


async def test_in_a_process_that_uses_the_segment(prefix: str) -> None:
    """Its record locks stay, and it is seen as alive."""
    layer = layer_of(prefix)
    await layer.send("a", {"n": 1})
    for _ in range(2):
        with Observer(prefix) as observer:
            (process,) = observer.processes()
            assert (process.pid, process.is_alive) == (os.getpid(), True)
            assert [each.prefix for each in segments() if each.prefix == prefix] == [prefix]
    assert probe(layer).core.lost() is None


async def test_an_observer_that_is_older_than_the_layer(prefix: str, spawn: Spawn) -> None:
    """To close its descriptor would drop the record locks that the process has taken since."""
    site = spawn(be_a_site, prefix)
    await asyncio.to_thread(site.ready)
    observer = Observer(prefix)
    layer = layer_of(prefix)
    await layer.send("a", {"n": 1})
    assert {each.pid: each.is_alive for each in observer.processes()} == {os.getpid(): True, site.pid: True}
    observer.close()
    assert probe(layer).core.lost() is None
    assert _core.is_inhabited(probe(layer).segment_descriptor)
    site.send(None)
    await asyncio.to_thread(site.result)


async def test_no_descriptor_is_left(prefix: str, spawn: Spawn) -> None:
    """That of an observer that is older than the layer is closed with the layer's."""
    site = spawn(be_a_site, prefix)
    await asyncio.to_thread(site.ready)
    before = open_descriptors()
    for _ in range(5):
        with Observer(prefix) as observer:
            layer = layer_of(prefix)
            probe(layer).local.process()
            assert observer.groups() == {"g": 1, "h": 1}
        assert probe(layer).core.lost() is None
        del layer
        assert len(open_descriptors()) <= len(before), open_descriptors()
    site.send(None)
    await asyncio.to_thread(site.result)


def test_there_is_none(prefix: str) -> None:
    with pytest.raises(SegmentNotFound, match=f"{prefix!r} on this machine"):
        Observer(prefix)
    assert is_clean(prefix)


def mark_as_damaged(parent: Parent, prefix: str) -> None:
    """As an operation does that meets inconsistent data: the next owner of the lock repairs the segment."""
    with segment_path(prefix).open("r+b") as file:
        file.seek(DAMAGED)
        file.write(b"\1")


async def test_figures_go_on_after_a_kill_a_repair_and_a_move(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix, capacity=2)
    site = spawn(be_a_site, prefix)
    own = await asyncio.to_thread(site.ready)
    for _ in range(2):
        await layer.send("a", {"n": 1})
    with pytest.raises(layer.ChannelFull):
        await layer.send("a", {"n": 1})
    await receive(layer, "a")
    await layer.send(own, {"n": 2})
    await asyncio.to_thread(site.kill)

    async def is_reaped() -> bool:
        await layer.group_send("nobody", {"n": 0})  # who sends looks for the dead now and then
        return bool(observer.counters()["reaped"])

    observer = Observer(prefix)
    await wait_until(is_reaped, "the dead process is noticed")
    assert [each.pid for each in observer.processes()] == [os.getpid()]
    assert observer.groups() == {}

    def figures() -> tuple[Any, ...]:
        counters = observer.counters()
        counts, waits = observer.channel_counts()["a"], observer.waits()
        keys = ("sent", "received", "full", "dead", "reaped")
        return [counters[key] for key in keys], (counts.sent, counts.received, counts.full), sum(waits.counts)

    expected = ([3, 1, 1, 1, 1], (2, 1, 1), 1)
    assert figures() == expected
    before = inode_of(prefix)
    await asyncio.to_thread(spawn(mark_as_damaged, prefix).result)
    await layer.send("b", {"n": 3})
    check(layer)
    assert observer.counters()["repairs"] == 1
    expected[0][0] += 1
    assert figures() == expected
    remove_segment(prefix)
    probe(layer).local.process().housekeep()
    assert inode_of(prefix) != before
    assert figures() == expected, "the observer follows, and what was counted goes along"
    assert observer.counters()["repairs"] == 1
    await layer.send("a", {"n": 4})
    assert (await layer.channel_statistics("a"))["messages_count"] == 3
    observer.close()


def test_a_stopped_holder_of_the_lock_is_named(prefix: str, stopper: Callable[[str], Stopper]) -> None:
    layer = layer_of(prefix)
    probe(layer).local.process()
    holder = stopper(prefix)
    holder.stop()
    with Observer(prefix) as observer, pytest.raises(SegmentBusy, match=f"process {holder.pid} "):
        list(observer.channels())
    holder.go_on()
    assert list(Observer(prefix).channels()) == []


def churn(parent: Parent, prefix: str) -> None:
    """Makes and empties channels, as fast as it can."""
    layer = layer_of(prefix)
    core = probe(layer).core
    core.open_inbox("x.AAAAAAAAAA!")
    parent.ready()
    number = 0
    while not parent.has_news():
        name = f"short.{number % 50}"
        core.push(name, "", b"x" * (number % 300), 10, 10**9)
        core.group_add(f"group.{number % 7}", "x.AAAAAAAAAA!", str(number % 90), 10**9)
        core.pop(name, -1)
        number += 1


def test_lists_amid_traffic(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    core = probe(layer).core
    names = {f"stays.{n}" for n in range(200)}
    for name in names:
        core.push(name, "", name.encode(), 10, 10**12)
    process = spawn(churn, prefix)
    process.ready()
    with Observer(prefix) as observer:
        for _ in range(30):
            found = [each for each in observer.channels() if each.name.startswith("stays.")]
            assert sorted(each.name for each in found) == sorted(names)
            assert all(each.pending == 1 for each in found)
            assert sum(observer.groups().values()) <= 90 * 7
            (message,) = observer.peek("stays.7", body=True)
            assert message.payload == b"stays.7"
    process.send(None)
    process.result()
    check(layer)
