"""Processes that use a segment, and somebody who writes where he should not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import GroupMemoryFull, SegmentBusy, SegmentDamaged
from tests.contract.peers import Warnings
from tests.ipc.tools import layer_of
from tests.support.process_main import Parent
from tests.support.processes import Process, Spawn
from tests.support.waiting import any_moment, block_until, cancelled

PAGE = 4096
CELL = 64
ALLOWED = (ChannelFull, GroupMemoryFull, SegmentBusy, SegmentDamaged)


class User:
    """One process that waits on its own channel and on a normal one, and sends what it is told to."""

    def __init__(self, parent: Parent, prefix: str) -> None:
        self.parent = parent
        self.layer = layer_of(prefix, capacity=30, expiry=3, message_memory=8 << 20)
        self.errors: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.slowest = (0.0, "")
        self.is_busy = False

    async def call(self, method: str, *args: Any) -> None:
        begin = time.monotonic()
        try:
            await getattr(self.layer, method)(*args)
        except ALLOWED as error:
            self.errors[type(error).__name__] += 1
        except Exception:  # noqa: BLE001  # told to the test
            self.unexpected.append(traceback.format_exc())
        finally:
            self.slowest = max(self.slowest, (time.monotonic() - begin, method))

    async def read(self, channel: str, kind: str) -> None:
        while True:
            try:
                message = await self.layer.receive(channel)
            except ALLOWED as error:
                self.errors[type(error).__name__] += 1
                await any_moment(0.02)
            except Exception:  # noqa: BLE001  # told to the test
                self.unexpected.append(traceback.format_exc())
                await any_moment(0.2)
            else:
                if "probe" in message:
                    self.parent.send((message.get("to", kind), message["probe"]))

    async def traffic(self, peers: list[str], rng: random.Random) -> None:
        while True:
            await any_moment(0.002)
            message = {"body": "x" * (rng.choice([10, 100, 1000]) if rng.randrange(50) else 70_000)}
            steps: list[tuple[Any, ...]] = [
                ("send", rng.choice(peers), message),
                ("send", "normal", message),
                ("send", f"unread.{rng.randrange(50)}", message),
                ("group_send", "group", message),
                ("group_add", f"group.{rng.randrange(20)}", rng.choice(peers)),
                ("group_discard", f"group.{rng.randrange(20)}", rng.choice(peers)),
            ]
            if self.is_busy:
                await self.call(*rng.choice(steps))


async def use(parent: Parent, prefix: str, seed: int) -> None:
    """Use the segment until told to end; then tell how it went."""
    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)
    user = User(parent, prefix)
    own = await user.layer.new_channel()
    await user.layer.group_add("group", own)
    parent.ready(own)
    peers = await asyncio.to_thread(parent.receive)
    tasks = [
        asyncio.create_task(user.read(own, "own")),
        asyncio.create_task(user.read("normal", "normal")),
        asyncio.create_task(user.traffic(peers, random.Random(seed))),
    ]
    while (order := await asyncio.to_thread(parent.receive)) is not None:
        what, value = order
        if what == "busy":
            user.is_busy = value
        elif what == "probe":
            for peer in peers:
                await user.call("send", peer, {"probe": value, "to": "own"})
            await user.call("group_send", "group", {"probe": value, "to": "group"})
            await user.call("send", "normal", {"probe": value, "to": "normal"})
    await cancelled(*tasks)
    story = {
        "errors": dict(user.errors),
        "unexpected": user.unexpected,
        "slowest": user.slowest,
        "warnings": warnings.texts,
    }
    parent.send(("story", story))


class Users:
    """Processes that use one segment, and what arrives there."""

    def __init__(self, spawn: Spawn, prefix: str, number: int, seed: int = 0) -> None:
        self.processes = [spawn("tests.ipc.damaging:use", prefix, seed + n) for n in range(number)]
        self.names = [process.ready() for process in self.processes]
        for process in self.processes:
            process.send(self.names)
        self._probes = 0

    def set_busy(self, is_busy: bool) -> None:
        for process in self.processes:
            process.send(("busy", is_busy))

    def await_recovery(self, seconds: float) -> float:
        """Until one message in a row arrives at each process, each member of the group, and the normal channel."""
        begin = time.monotonic()
        while not self._probe():
            assert time.monotonic() - begin < seconds, "nothing arrives any more"
        return time.monotonic() - begin

    def _probe(self) -> bool:
        self._probes += 1
        self.processes[self._probes % len(self.processes)].send(("probe", self._probes))
        missing = {(n, kind) for n in range(len(self.processes)) for kind in ("own", "group")} | {(-1, "normal")}

        def have_come() -> bool:
            for n, process in enumerate(self.processes):
                while process.has_news():
                    kind, probe = process.receive()
                    if probe == self._probes:
                        missing.discard((-1 if kind == "normal" else n, kind))
            return not missing

        try:
            block_until(have_come, "a message has come to each", 0.5)
        except AssertionError:
            return False  # it may have been damaged
        return True

    def end(self) -> list[dict[str, Any]]:
        """What each process has to tell."""
        for process in self.processes:
            process.send(None)
        return [self._story(process) for process in self.processes]

    def _story(self, process: Process) -> dict[str, Any]:
        kind, story = process.receive()
        while kind != "story":  # late probes
            kind, story = process.receive()
        process.result()
        return story


def damage(path: Path, rng: random.Random) -> str:
    """Overwrite something, mostly where something is. In a process that has not attached: it closes a descriptor."""
    with writable(path) as memory:
        where = rng.choice(["header", "used", "used", "used", "anywhere"])
        if where == "header":
            at = rng.randrange(1024)
        elif where == "anywhere":
            at = rng.randrange(len(memory))
        else:
            at = rng.choice(used_cells(memory)) + rng.randrange(CELL)
        how = rng.choice(["a byte", "a word", "a small number", "a page", "a page of zeros"])
        at &= {"a byte": ~0, "a word": ~3, "a small number": ~3}.get(how, ~(PAGE - 1))
        new = {
            "a byte": rng.randbytes(1),
            "a word": rng.randbytes(4),
            "a small number": rng.randrange(300).to_bytes(4, "little"),
            "a page": rng.randbytes(PAGE),
            "a page of zeros": bytes(PAGE),
        }[how]
        memory[at : at + len(new)] = new
        return f"{how} at {at} ({where})"


def _opened(path: Path) -> int:
    """Processes that move to a new segment remove the old one first, and give the new one its size last."""

    def has_size() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size > 0
        return False

    while True:
        block_until(has_size, f"there is a {path}")
        with contextlib.suppress(FileNotFoundError):  # it has just been removed again
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of a segment."""
    fd = _opened(path)
    try:
        with mmap.mmap(fd, os.fstat(fd).st_size) as memory:
            yield memory
    finally:
        os.close(fd)


def used_cells(memory: mmap.mmap) -> list[int]:
    """Where something else than zeros is."""
    nothing = bytes(CELL)
    pages = [at for at in range(0, len(memory), PAGE) if memory[at : at + PAGE] != bytes(PAGE)]
    return [at for page in pages for at in range(page, page + PAGE, CELL) if memory[at : at + CELL] != nothing]
