"""What there is only so much of: places for processes, descriptors, memory of a process; and sizes that change."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_layer.exceptions import ConfigurationError, TooManyProcesses
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.objects import ROOT, lock_bearer
from tests.ipc.programs import Crowd
from tests.ipc.tools import alive, check, directory_path, doorbells, is_clean, layer_of, receive
from tests.support.loops import run
from tests.support.marks import but_thorough
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import outlive, receiving, turns

# Places for processes


def test_more_processes_than_places(prefix: str, spawn: Spawn, c_programs: Path) -> None:
    """1,023 others are there: the next one is refused by name, until one of them leaves or dies."""
    layer = layer_of(prefix)
    run(layer.send("kept", {"n": "kept"}))
    crowd = Crowd(c_programs, prefix, _core.SLOTS - 1)
    try:
        assert alive(layer) == _core.SLOTS
        before = used(layer)
        newcomer = spawn("tests.ipc.test_limits:try_to_join", prefix)
        for how in ("leave", "kill"):
            newcomer.ready()
            assert used(layer) == before
            assert doorbells(prefix) == []
            crowd.lose(how)
            newcomer.send("now")
            newcomer.ready()
            assert run(receive(layer, "from.it")) == "joined"
            newcomer.send("leave")
            newcomer.ready()
            if how == "leave":
                other = Crowd(c_programs, prefix, 1)  # its place is taken by another one
            newcomer.send("come again")
        assert newcomer.result() is None
        other.leave()
    finally:
        crowd.leave()
    assert alive(layer) == 1
    assert run(receive(layer, "kept")) == "kept"
    check(layer)


def used(layer: Any) -> int:
    found = check(layer)
    return found["blocks"] - found["free"]


def try_to_join(parent: Parent, prefix: str) -> None:
    descriptors = 0
    for _ in range(2):
        layer = layer_of(prefix)
        for n in range(5):
            with pytest.raises(TooManyProcesses, match=f"{_core.SLOTS} processes use .*another prefix"):
                run(layer.send("from.it", {"n": "refused"}))
            gc.collect()
            if n == 0:
                descriptors = len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) == descriptors
        parent.ready()
        parent.receive()
        run(layer.send("from.it", {"n": "joined"}))
        parent.ready()
        parent.receive()
        del layer
        gc.collect()
        parent.ready()
        parent.receive()


# Descriptors


def test_no_descriptor_left(prefix: str, spawn: Spawn) -> None:
    """For attaching, for a doorbell, for ringing: an error or a wait, and all is well when there are some again."""
    layer = layer_of(prefix)
    run(layer.new_channel())
    other = spawn("tests.ipc.test_limits:run_out_of_descriptors", prefix)
    assert other.result() is None
    assert alive(layer) == 1
    assert doorbells(prefix) == []
    check(layer)


class NoDescriptors:
    """In this block every descriptor is taken."""

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, self._limits[1]))
        self._taken = list(self._open_all())

    @staticmethod
    def _open_all() -> Iterator[int]:
        with contextlib.suppress(OSError):
            while True:
                yield os.open("/dev/null", os.O_RDONLY)

    def __exit__(self, *_: object) -> None:
        for taken in self._taken:
            os.close(taken)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


async def run_out_of_descriptors(parent: Parent, prefix: str) -> None:
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layer = layer_of(prefix)
    for _ in range(3):
        with NoDescriptors(), pytest.raises(ConfigurationError, match=r"Too many open files.*ulimit"):
            await layer.send("a", {"n": 0})
    before = len(os.listdir("/proc/self/fd"))
    await layer.send("a", {"n": 1})
    assert await receive(layer, "a") == 1
    assert len(os.listdir("/proc/self/fd")) == before + (2 if _core.PORTABLE else 3)  # lock file, doorbell, segment
    await layer.close()
    with NoDescriptors():
        # It waits without a doorbell, and looks for itself. More often than there are places for loops.
        for n in range(2 * _core.LOOPS):
            (waiting,) = await receiving(layer, "a")
            await layer.send("a", {"n": n})
            assert (await asyncio.wait_for(waiting, 5))["n"] == n
            await layer.close()
    (waiting,) = await receiving(layer, "a")
    assert probe(layer).wait_set.number >= 0
    assert len(doorbells(prefix)) == 1
    await layer.send("a", {"n": "rung"})
    assert (await waiting)["n"] == "rung"


async def test_no_descriptor_for_ringing(prefix: str, spawn: Spawn) -> None:
    """The message is stored; the other one finds it in its housekeeping."""
    layer = layer_of(prefix)
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    other.ready()
    sender = spawn("tests.ipc.test_limits:send_without_descriptors", prefix)
    reply = await layer.new_channel()
    sender.send(reply)
    assert await receive(layer, reply) == "unrung"
    await layer.send("work", {"n": 1, "reply": ""})
    assert sender.result() is None
    assert other.result() == 1


async def send_without_descriptors(parent: Parent, prefix: str) -> None:
    layer = layer_of(prefix)
    reply = parent.receive()
    await layer.new_channel()
    with NoDescriptors():
        await layer.send("work", {"n": "unrung", "reply": reply})


# Memory of a process


@pytest.mark.parametrize("discards", but_thorough([True, False], True), ids=["discard", "forget"])
def test_consumers_that_come_and_go(prefix: str, discards: bool) -> None:
    """Forty thousand of them, some with messages that they do not read; what is forgotten expires."""
    layer = layer_of(prefix, group_expiry=0.2, expiry=0.2, group_memory=8 << 20, capacity=10)
    blocks = []

    async def main() -> None:
        for _ in range(4):
            for n in range(10_000):
                name = await layer.new_channel()
                await layer.group_add("group", name)
                if n % 100 == 0:
                    await layer.group_send("group", {"n": n})
                    await turns()
                if discards:
                    await layer.group_discard("group", name)
            await outlive(0.2)
            await layer.group_send("group", {"n": 0})
            await layer.group_add("group", name)
            gc.collect()
            blocks.append(sys.getallocatedblocks())

    run(main())
    assert blocks[-1] - blocks[1] < 40_000, blocks  # what is forgotten for ever is three for each
    assert check(layer)["members"] <= 1


# Sizes, layouts


@pytest.mark.parametrize("option", ["message_memory", "group_memory"])
def test_changed_size(prefix: str, spawn: Spawn, option: str, caplog: pytest.LogCaptureFixture) -> None:
    """Refused while a process lives, replaced when none does, with a warning if that loses something."""
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    other.ready()
    layer = layer_of(prefix, **{option: 4 << 20})
    sizes = {"message_memory": 1 << 20, "group_memory": 1 << 18}
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ConfigurationError) as refused:
            run(layer.send("a", {"n": 1}))
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
    changed = {**sizes, option: 4 << 20}
    for part in (
        prefix,
        *(f"{name}={size}" for name, size in sizes.items()),
        *(f"{name}={size}" for name, size in changed.items()),
        f"process {other.pid} (python",
        "Use the same sizes, stop those processes first, or use another prefix",
    ):
        assert part in str(refused.value)
    same = layer_of(prefix)
    run(same.send("kept", {"n": "kept"}))
    run(same.send("work", {"n": 1, "reply": ""}))
    assert other.result() == 0
    assert run(receive(same, "kept")) == "kept"
    run(same.send("lost", {"n": "lost"}))
    del same
    gc.collect()
    assert not [record for record in caplog.records if "unread messages are lost" in record.getMessage()]
    run(layer.send("a", {"n": 1}))
    assert run(receive(layer, "a")) == 1
    assert check(layer)["channels"] == 0
    assert option != "message_memory" or probe(layer).core.message_bytes == 4 << 20
    (record,) = (record for record in caplog.records if "its unread messages are lost" in record.getMessage())
    assert record.levelno == logging.WARNING
    assert f"{option}={4 << 20}" in record.getMessage()


@pytest.mark.parametrize("lives", [True, False], ids=["alive", "left behind"])
def test_another_layout_version(prefix: str, spawn: Spawn, lives: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A process of another release has its own files, and neither disturbs the other; one warning says so."""
    other = spawn("tests.ipc.test_limits:be_another_release", prefix)
    path, directory = other.ready()
    if not lives:
        other.kill()
    layer = layer_of(prefix)
    for n in range(3):
        run(layer.send("a", {"n": n}))
        assert run(receive(layer, "a")) == n
    del layer
    gc.collect()
    assert is_clean(prefix)
    layer_again = layer_of(prefix)
    run(layer_again.new_channel())
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if "Another release" in text and "Restart the older" in text]) == lives, texts
    if lives:
        other.send("go on")
        assert other.result() == {"n": "still here"}
    assert Path(path).exists() == Path(directory).exists() == (not lives)
    if not lives:
        Path(path).unlink()
        for left in Path(directory).iterdir():
            left.unlink()
        Path(directory).rmdir()


def be_another_release(parent: Parent, prefix: str) -> Any:
    _core.LAYOUT_VERSION += 1
    layer = layer_of(prefix)
    run(layer.send("a", {"n": "still here"}))
    parent.ready((str(lock_bearer(probe(layer).segment.name)), str(probe(layer).segment.directory)))
    parent.receive()
    assert str(ROOT) in str(probe(layer).segment.directory)
    assert probe(layer).segment.directory != directory_path
    return run(layer.receive("a"))
