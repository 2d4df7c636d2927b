"""Words of the tests of the local half: the segment that a layer uses, and second processes that use it too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybrid_layer.ipc import IPCChannelLayer, _core, objects
from hybrid_layer.ipc.objects import segment_name
from tests.support.probe import posix_name, probe
from tests.support.process_main import Parent
from tests.support.waiting import cancelled, receiving

CORE = Path(__file__).parents[2] / "hybrid_layer" / "ipc" / "_core"
SMALL = {"message_memory": 1 << 20, "group_memory": 1 << 18}


def layer_of(prefix: str, **options: Any) -> IPCChannelLayer:
    return IPCChannelLayer(prefix=prefix, **{**SMALL, **options})


def segment_path(prefix: str, user: int | None = None) -> Path:
    """Where Linux shows the shared-memory object, for the portable core too."""
    return Path("/dev/shm" + posix_name(segment_name(prefix, os.geteuid() if user is None else user)))


def inode_of(prefix: str) -> int:
    """Tells one segment from the next of the same name; 0 if there is none."""
    try:
        return segment_path(prefix).stat().st_ino
    except FileNotFoundError:
        return 0


def directory_path(prefix: str) -> Path:
    return objects.directory_of(segment_name(prefix, os.geteuid()))


def remove_segment(prefix: str, also: str = "") -> None:
    """As something does that cleans up: what people find of it, and perhaps `also` "all" the rest."""
    if also == "all" or not _core.PORTABLE:
        segment_path(prefix).unlink()
    if also == "all" or _core.PORTABLE:
        shutil.rmtree(directory_path(prefix))


def doorbells(prefix: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.name for path in directory_path(prefix).iterdir() if path.is_fifo())
    return []


def is_clean(prefix: str) -> bool:
    """Nothing of it is left."""
    return not segment_path(prefix).exists() and not directory_path(prefix).exists()


def check(layer: IPCChannelLayer) -> dict[str, int]:
    """Fails unless the checker finds the segment sound; what it counted."""
    for _ in range(100):
        try:
            error, totals = probe(layer).core.check()
        except _core.Busy:
            continue
        assert error == ""
        names = ("channels", "messages", "waiters", "groups", "pairs", "members")
        names += ("blocks", "free", "group_blocks", "group_free")
        return dict(zip(names, totals, strict=True))
    raise AssertionError("the lock cannot be acquired")


def alive(layer: IPCChannelLayer) -> int:
    """How many processes are in the segment."""
    return sum(is_alive for _, _, _, is_alive in probe(layer).core.processes())


async def others_fall_asleep() -> None:
    """Let the loops of other processes, which have just done something, go to sleep, so that they have to be rung."""
    await asyncio.sleep(0.02)  # what another process's loop is about to do is nowhere to be seen


async def receive(layer: IPCChannelLayer, channel: str, seconds: float = 5) -> Any:
    async with asyncio.timeout(seconds):
        return (await layer.receive(channel))["n"]


async def waiting_member(layer: IPCChannelLayer, group: str = "group") -> tuple[str, asyncio.Task[Any]]:
    """A channel of this process, in a group, and a receiver on it whose loop sleeps."""
    own = await layer.new_channel()
    await layer.group_add(group, own)
    (waiting,) = await receiving(layer, own)
    return own, waiting


@contextlib.contextmanager
def flushed(*layers: IPCChannelLayer) -> Iterator[None]:
    """Empties the segment at the end, so that its last user removes it."""
    try:
        yield
    finally:
        for layer in layers:
            asyncio.run(layer.flush())


def core_sources() -> list[Path]:
    """The C files of the core that need no Python, those of this build."""
    sources = [path for path in CORE.glob("*.c") if not path.name.startswith("binding")]
    return [*sources, *(CORE / ("portable" if _core.PORTABLE else "linux")).glob("*.c")]


# Second processes


async def echo(parent: Parent, prefix: str, options: dict[str, Any], channel: str) -> int:
    """Sends what comes on `channel` to where the message says, until it says nowhere. Prints no warnings."""
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layer = layer_of(prefix, **options)
    own, waiting = await waiting_member(layer, "everybody")
    parent.ready((own, os.getpid()))
    number = 0
    while (message := await layer.receive(channel))["reply"]:
        await layer.send(message["reply"], {"n": message["n"]})
        number += 1
    await cancelled(waiting)
    return number
