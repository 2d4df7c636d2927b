"""Processes that use a segment, and somebody who writes where he should not."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import GroupMemoryFull, SegmentBusy, SegmentDamaged
from tests.contract.peers import Warnings
from tests.ipc.tools import layer_of
from tests.process_main import Parent

PAGE = 4096
ALLOWED = (ChannelFull, GroupMemoryFull, SegmentBusy, SegmentDamaged)


class User:
    """One process that waits on its own channel and on a normal one, and sends what it is told to."""

    def __init__(self, parent: Parent, prefix: str) -> None:
        self.parent = parent
        self.layer = layer_of(prefix, capacity=30, expiry=3, message_memory=8 << 20)
        self.errors: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.slowest = (0.0, "")
        self.busy = False

    async def call(self, method: str, *args: Any) -> Any:
        begin = time.monotonic()
        try:
            return await getattr(self.layer, method)(*args)
        except ALLOWED as error:
            self.errors[type(error).__name__] += 1
        except Exception:  # noqa: BLE001  # told to the test
            self.unexpected.append(traceback.format_exc())
        finally:
            self.slowest = max(self.slowest, (time.monotonic() - begin, method))
        return None

    async def read(self, channel: str, kind: str) -> None:
        while True:
            try:
                message = await self.layer.receive(channel)
            except ALLOWED as error:
                self.errors[type(error).__name__] += 1
                await asyncio.sleep(0.01)
            except Exception:  # noqa: BLE001  # told to the test
                self.unexpected.append(traceback.format_exc())
                await asyncio.sleep(0.1)
            else:
                if "probe" in message:
                    self.parent.send((message.get("to", kind), message["probe"]))

    async def traffic(self, peers: list[str], rng: random.Random) -> None:
        while True:
            await asyncio.sleep(0.001)
            if not self.busy:
                continue
            size = rng.choice([10, 100, 1000]) if rng.randrange(50) else 70_000
            match rng.randrange(8):
                case 0 | 1:
                    await self.call("send", rng.choice(peers), {"body": "x" * size})
                case 2 | 3:
                    await self.call("send", "normal", {"body": "x" * size})
                case 4:
                    await self.call("send", f"unread.{rng.randrange(50)}", {"body": "x" * size})
                case 5:
                    await self.call("group_send", "group", {"body": "x" * size})
                case 6:
                    await self.call("group_add", f"group.{rng.randrange(20)}", rng.choice(peers))
                case 7:
                    await self.call("group_discard", f"group.{rng.randrange(20)}", rng.choice(peers))


async def use(parent: Parent, prefix: str, seed: int) -> dict[str, Any]:
    """Use the segment until told to end."""
    import logging

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
            user.busy = value
        elif what == "probe":
            for peer in peers:
                await user.call("send", peer, {"probe": value, "to": "own"})
            await user.call("group_send", "group", {"probe": value, "to": "group"})
            await user.call("send", "normal", {"probe": value, "to": "normal"})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "errors": dict(user.errors),
        "unexpected": user.unexpected,
        "slowest": user.slowest,
        "warnings": warnings.texts,
        "statistics": await user.layer.statistics(),
    }


def damage(path: Path, rng: random.Random, where: tuple[int, int], how: str) -> list[tuple[int, bytes]]:
    """Overwrite something between two offsets. In a process that has not attached: it closes a descriptor."""
    fd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        with mmap.mmap(fd, size) as memory:
            begin, end = where[0], min(where[1], size)
            written = []
            number = {"byte": 1, "bytes": 16, "word": 1, "small": 4, "page": 1, "zero": 1}[how]
            for _ in range(number):
                at = rng.randrange(begin, end)
                match how:
                    case "byte" | "bytes":
                        new = rng.randbytes(1)
                    case "word":
                        at, new = at & ~3, rng.randbytes(4)
                    case "small":
                        at, new = at & ~3, rng.randrange(300).to_bytes(4, "little")
                    case "page":
                        at, new = at & ~(PAGE - 1), rng.randbytes(PAGE)
                    case _:
                        at, new = at & ~(PAGE - 1), bytes(PAGE)
                memory[at : at + len(new)] = new
                written.append((at, new[:4]))
            return written
    finally:
        os.close(fd)
