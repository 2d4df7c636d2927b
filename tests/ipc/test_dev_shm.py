"""What only Linux's /dev/shm can do: be full, be missing, cut off or give away what is in it, list objects by name.

Not for the portable core, see conftest.py.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import ConfigurationError, SegmentNotFound, SegmentUnavailable
from hybrid_layer.ipc import IPCChannelLayer, _core, objects
from hybrid_layer.ipc.inventory import segments
from hybrid_layer.ipc.objects import lock_bearer
from hybrid_layer.ipc.observer import Observer
from tests.ipc.small_shm import small_shm
from tests.ipc.test_memory_full import body, fill_and_read, keep_warnings
from tests.ipc.test_strangers import NOBODY, needs_root
from tests.ipc.tools import doorbells, layer_of, others_fall_asleep, receive, segment_path
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import cancelled, succeeds, turns, wait_until


def test_shm(prefix: str, spawn: Spawn) -> None:
    with small_shm(spawn, "size=16m") as shm:
        fill_and_read(
            shm.spawn("tests.ipc.test_memory_full:sender", prefix, {}),
            shm.spawn("tests.ipc.test_memory_full:reader", prefix, {}),
            "/dev/shm is full (16 MiB large with 0 MiB free), not message_memory=104857600 or group_memory=20971520 "
            "bytes. Make it larger",
        )
        assert shm.names() == []


def test_shm_filled_by_others(prefix: str, spawn: Spawn) -> None:
    """Under a running layer, which keeps what it has. A new process can still wait and be rung."""
    with small_shm(spawn, "size=16m") as shm:
        first = shm.spawn("tests.ipc.test_memory_full:sender", prefix, {})
        first.ready()
        first.send(True)
        first.receive()
        second = shm.spawn("tests.ipc.test_memory_full:reader", prefix, {})
        second.ready()
        second.send(True)
        assert len(second.receive()) > 10
        filler = shm.fill()
        third = shm.spawn("tests.ipc.tools:echo", prefix, {"message_memory": 100 << 20, "group_memory": 20 << 20}, "x")
        third.ready()
        fourth = shm.spawn("tests.ipc.test_dev_shm:ask", prefix)
        assert fourth.result() < 0.2
        third.result()
        filler.unlink()
        first.send(True)
        assert "/dev/shm is full" in first.receive()[2]
        second.send(True)
        assert len(second.receive()) > 10
        for process in (first, second):
            process.send(False)
            process.result()


async def ask(parent: Parent, prefix: str) -> float:
    """The median time of a round trip."""
    layer = IPCChannelLayer(prefix=prefix)
    reply = await layer.new_channel()
    times = []
    for n in range(20):
        await others_fall_asleep()
        begin = asyncio.get_running_loop().time()
        await layer.send("x", {"n": n, "reply": reply})
        assert await receive(layer, reply) == n
        times.append(asyncio.get_running_loop().time() - begin)
    await layer.send("x", {"n": 1, "reply": ""})
    return sorted(times)[10]


@pytest.mark.parametrize(("what", "says"), [("bytes", "/dev/shm is full"), ("files", "no room for more files")])
def test_no_room_for_a_segment(prefix: str, spawn: Spawn, what: str, says: str) -> None:
    """Nothing is left behind, and later it works."""
    with small_shm(spawn, "size=8m,nr_inodes=20") as shm:
        if what == "bytes":
            shm.fill()
        else:
            for n in range(30):
                try:
                    (shm.path / f"file.{n}").touch()
                except OSError:
                    break
        before = shm.names()
        process = shm.spawn("tests.ipc.test_dev_shm:start", prefix)
        error = process.receive()
        assert says in error
        assert "docker run --shm-size" in error or what == "files"
        assert shm.names() == before
        for path in shm.path.iterdir():
            path.unlink()
        process.send("again")
        assert process.result() == 1
        assert shm.names() == []


async def start(parent: Parent, prefix: str) -> Any:
    layer = layer_of(prefix)
    for _ in range(3):
        with pytest.raises(ConfigurationError) as refused:
            await layer.send("a", {"n": 1})
    parent.send(str(refused.value))
    parent.receive()
    await layer.send("a", {"n": 1})
    return await receive(layer, "a")


def test_no_file_for_a_doorbell(prefix: str, spawn: Spawn) -> None:
    """Then messages are looked for."""
    with small_shm(
        spawn, "size=8m,nr_inodes=5"
    ) as shm:  # the root, the directory, the lock file, the segment, one FIFO
        first = shm.spawn("tests.ipc.tools:echo", prefix, {}, "x")
        first.ready()
        second = shm.spawn("tests.ipc.test_dev_shm:wait_without_doorbell", prefix)
        warnings, bells = second.result()
        assert bells == 1
        assert len(warnings) == 1
        assert "Cannot make" in warnings[0]
        assert "No space left on device" in warnings[0]
        first.result()


async def wait_without_doorbell(parent: Parent, prefix: str) -> tuple[list[str], int]:
    warnings = keep_warnings()
    layer = layer_of(prefix)
    reply = await layer.new_channel()
    for n in range(5):
        await layer.send("x", {"n": n, "reply": reply})
        assert await receive(layer, reply) == n
    bells = len(doorbells(prefix))
    await layer.send("x", {"n": 1, "reply": ""})
    return warnings.texts, bells


def test_docker_default(prefix: str, spawn: Spawn) -> None:
    """64 MiB and default options, under load from several processes."""
    with small_shm(spawn, "size=64m") as shm:
        readers = [shm.spawn("tests.ipc.test_dev_shm:work", prefix) for _ in range(2)]
        for process in readers:
            process.ready()
        senders = [shm.spawn("tests.ipc.test_dev_shm:load", prefix, me) for me in range(2)]
        assert [process.result(60) for process in senders] == [0, 0]
        assert sum(process.result() for process in readers) == 2 * 1500


async def load(parent: Parent, prefix: str, me: int) -> int:
    """Sends 1500 messages of all sizes as fast as they are read. How often /dev/shm was full."""
    layer = IPCChannelLayer(prefix=prefix)
    full = 0

    async def send(n: int) -> None:
        nonlocal full
        try:
            await layer.send("work", {"n": n, "body": body(n)})
        except ChannelFull as error:
            full += "at its capacity" not in str(error)
            raise

    for n in range(1500):
        await succeeds(partial(send, n), ChannelFull)
    for _ in range(2):
        await layer.send(f"end.{me}", {"n": None})
    return full


async def work(parent: Parent, prefix: str) -> int:
    layer = IPCChannelLayer(prefix=prefix)
    parent.ready()
    number = 0

    async def read() -> None:
        nonlocal number
        while True:
            message = await layer.receive("work")
            assert message["body"] == body(message["n"])
            number += 1

    reading = asyncio.create_task(read())
    for me in range(2):
        await layer.receive(f"end.{me}")

    async def have_come() -> bool:
        return (await layer.statistics())["received"] >= 2 * 1500

    await wait_until(have_come, "both processes have received all", 60)
    await cancelled(reading)
    return number


def test_cut_off(prefix: str, spawn: Spawn) -> None:
    """A process that does not touch it before its next housekeeping survives even that."""
    first, second, warnings = spawn("tests.ipc.test_dev_shm:be_cut_off", prefix).result()
    assert (first, second) == (1, 2)
    assert any("truncated it" in text for text in warnings)
    assert not segment_path(prefix).exists()


async def be_cut_off(parent: Parent, prefix: str) -> tuple[int, int, list[str]]:
    warnings = keep_warnings()
    layer = layer_of(prefix)
    own = await layer.new_channel()
    await layer.group_add("group", own)
    await layer.send(own, {"n": 1})
    first = await receive(layer, own)
    await layer.close()  # no loop of ours looks at its place in what is now gone
    os.truncate(segment_path(prefix), 0)
    assert probe(layer).segment.recover_if_lost()
    await layer.group_send("group", {"n": 2})
    return first, await receive(layer, own), warnings.texts


async def test_a_segment_takes_about_2_mib_and_what_is_unread(prefix: str) -> None:
    """With the default sizes. It grows by 256 KiB at a time."""
    layer = IPCChannelLayer(prefix=prefix)

    def size() -> int:
        return segment_path(prefix).stat().st_blocks * 512

    await layer.send("a", {"n": 1})
    first = size()
    assert first <= (2 << 20) + (64 << 10)
    for _ in range(20):
        await layer.send("a", {"body": "x" * 100_000})
    grown = size() - first
    assert grown % (256 << 10) == 0
    assert 20 * 100_000 - (256 << 10) <= grown <= 20 * 110_000 + (256 << 10)
    await layer.flush()


@needs_root
def test_umask_that_takes_everything(prefix: str, spawn: Spawn) -> None:
    """Two processes of an ordinary user meet all the same, and nothing that they make is open to others."""
    first, second = (spawn("tests.ipc.test_dev_shm:live_under_a_umask", prefix) for _ in range(2))
    channel = first.ready()
    second.ready()
    second.send(channel)
    assert second.result() is None
    first.send(None)
    assert first.result() == "from the other"


async def live_under_a_umask(parent: Parent, prefix: str) -> Any:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.umask(0o777)
    layer = layer_of(prefix)
    own = await layer.new_channel()
    waiting = asyncio.create_task(receive(layer, own, 20))
    await turns()
    segment = probe(layer).segment
    paths = [*segment.directory.iterdir(), segment.directory, lock_bearer(segment.name)]
    assert {oct(path.stat().st_mode & 0o777) for path in paths} == {"0o600", "0o700"}
    parent.ready(own)
    other = await asyncio.to_thread(parent.receive)
    if other is None:
        return await waiting
    await layer.send(other, {"n": "from the other"})
    waiting.cancel()
    return None


def test_file_system_that_is_not_there(prefix: str, fs: Any) -> None:
    """As pyfakefs makes one up for a test: there is nothing to be removed, and the sentence says what hides it."""
    with pytest.raises(SegmentUnavailable) as refused:
        run(layer_of(prefix).send("a", {"n": 1}))
    text = str(refused.value)
    assert "sees no folder /dev/shm" in text
    assert "pyfakefs" in text
    assert "Remove" not in text


def test_another_layout_is_listed_and_not_touched(prefix: str) -> None:
    name = f"hybrid_layer.{os.geteuid()}.{objects.digest(prefix)}.{_core.LAYOUT_VERSION + 1}"
    path = objects.ROOT / name
    path.write_bytes(b"a later release's")
    try:
        (found,) = [each for each in segments() if each.name == name]
        assert (found.layout, found.prefix, found.processes) == (_core.LAYOUT_VERSION + 1, None, None)
        assert found.is_inhabited is False
        with pytest.raises(SegmentNotFound, match="another release"):
            Observer(prefix)
        assert path.read_bytes() == b"a later release's"
    finally:
        path.unlink()
