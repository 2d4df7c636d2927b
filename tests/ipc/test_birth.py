"""How a segment comes into being, is shared, refused, replaced and removed."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import posix_ipc
import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.segment import LocalSegment
from tests.ipc.tools import (
    alive,
    check,
    directory_path,
    doorbells,
    flushed,
    is_clean,
    layer_of,
    receive,
    segment_path,
)
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import at_rest, outlive


@pytest.mark.parametrize("made", ["nothing", "its size", "all but the magic", "all but the lock"])
def test_maker_killed_half_way(prefix: str, made: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is there then: an object without size, without its mark, or finished and without a user."""
    directory_path(prefix).mkdir(mode=0o700)
    fd = posix_ipc.SharedMemory(f"/{segment_path(prefix).name}", posix_ipc.O_CREX, mode=0o600).fd
    lock_fd = os.open(directory_path(prefix) / "lock", os.O_RDWR | os.O_CREAT, 0o600) if _core.PORTABLE else fd
    if made == "its size":
        os.truncate(fd, 5 << 20)
    elif made != "nothing":
        _core.format(fd, lock_fd, 1 << 20, 1 << 18, prefix, "", "machine", (1, 2))
        if made == "all but the magic":
            os.pwrite(fd, bytes(8), 0)
    for descriptor in {fd, lock_fd}:
        os.close(descriptor)
    layer = layer_of(prefix)

    async def main() -> None:
        await layer.send("a", {"n": 1})
        assert await receive(layer, "a") == 1

    run(main())
    check(layer)
    assert any("Replacing" in record.getMessage() for record in caplog.records) == (made != "all but the lock")


@pytest.mark.parametrize("leave", ["nothing", "a message", "an expired message", "a membership", "expired membership"])
def test_last_leaver(prefix: str, spawn: Spawn, leave: str) -> None:
    stays = leave in ("a message", "a membership")
    assert spawn("tests.ipc.test_birth:use_and_leave", prefix, leave).result() is None
    assert is_clean(prefix) == (not stays)
    if stays:
        layer = layer_of(prefix)

        async def main() -> None:
            await layer.group_send("group", {"n": 1})
            assert await receive(layer, "a") == 1

        run(main())
        with flushed(layer):
            assert alive(layer) == 1


async def use_and_leave(parent: Parent, prefix: str, leave: str) -> None:
    expired = leave.startswith(("an expired", "expired"))
    layer = layer_of(prefix, **({"expiry": 0.01, "group_expiry": 0.01} if expired else {}))
    if "message" in leave:
        await layer.send("a", {"n": 1})
    if "membership" in leave:
        await layer.group_add("group", "a")
    own = await layer.new_channel()
    await layer.group_add("group", own)
    await layer.send(own, {"n": 1})
    if expired:
        await outlive(0.01)
    else:
        assert (await layer.receive(own))["n"] == 1


def test_leaver_while_others_live(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    async_to_sync(layer.new_channel)()
    assert spawn("tests.ipc.test_birth:use_and_leave", prefix, "nothing").result() is None
    assert segment_path(prefix).exists()
    assert alive(layer) == 1
    assert doorbells(prefix) == []


def test_loop_closed_without_notice_leaves_no_doorbell(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    async_to_sync(layer.new_channel)()
    assert spawn("tests.ipc.test_birth:close_a_loop_rudely", prefix).result()
    assert doorbells(prefix) == []


def close_a_loop_rudely(parent: Parent, prefix: str) -> list[str]:
    layer = layer_of(prefix)
    loop = asyncio.new_event_loop()

    async def wait_a_moment() -> None:
        try:
            async with asyncio.timeout(0.05):
                await layer.receive("a")
        except TimeoutError:
            pass

    loop.run_until_complete(wait_a_moment())
    loop.close()
    return doorbells(prefix)


def test_who_leaves_is_not_counted_as_dead(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    async_to_sync(layer.new_channel)()
    before = probe(layer).core.counters()[-1]
    assert spawn("tests.ipc.test_birth:use_and_leave", prefix, "nothing").result() is None
    assert probe(layer).core.counters()[-1] == before


def test_two_layers_share_one_attachment(prefix: str) -> None:
    first, second = layer_of(prefix), layer_of(prefix)
    async_to_sync(first.send)("a", {"n": 1})
    assert async_to_sync(second.receive)("a") == {"n": 1}
    assert alive(first) == 1
    with pytest.raises(ConfigurationError, match="Two layers of this process"):
        async_to_sync(layer_of(prefix, message_memory=2 << 20).send)("a", {"n": 1})


def test_layers_of_one_prefix_come_and_go_in_threads(prefix: str, spawn: Spawn) -> None:
    """The last process that leaves must not remove the lock of the next one."""
    assert spawn("tests.ipc.test_birth:come_and_go", prefix).result() == 0
    assert is_clean(prefix)


def come_and_go(parent: Parent, prefix: str) -> int:
    """How often a segment was lost."""

    def work(thread: int) -> int:
        lost = 0
        for n in range(40):
            layer = layer_of(prefix)
            asyncio.run(layer.send(f"a.{thread}", {"n": n}))
            lost += probe(layer).core.lost() is not None
            assert asyncio.run(layer.receive(f"a.{thread}")) == {"n": n}
        return lost

    with ThreadPoolExecutor(4) as threads:
        return sum(threads.map(work, range(4)))


def test_killed_processes_do_not_keep_a_segment(prefix: str, spawn: Spawn) -> None:
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    other.ready()
    other.kill(signal.SIGKILL)
    assert doorbells(prefix)
    assert spawn("tests.ipc.test_birth:use_and_leave", prefix, "nothing").result() is None
    assert is_clean(prefix)


def test_layer_collected_while_another_attaches(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector may free the last of the other layer objects at any moment; the new one gets no half of it."""
    unreachable = [layer_of(prefix)]
    layer = layer_of(prefix)
    run(unreachable[0].send("a", {"n": 1}))
    own = LocalSegment.is_own

    def collect_once(segment: LocalSegment) -> bool:
        monkeypatch.undo()
        unreachable.clear()
        return own(segment)

    async def main() -> None:
        assert await receive(layer, "a") == 1
        waiting = asyncio.create_task(receive(layer, "a"))
        await at_rest(layer, "a")
        await layer.send("a", {"n": 2})
        assert await waiting == 2

    monkeypatch.setattr(LocalSegment, "is_own", collect_once)
    run(main())
    check(layer)
