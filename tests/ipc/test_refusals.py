"""The system refuses a call: each call of each function, one after the other, until the layer makes no more of them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import itertools
import logging
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import HybridLayerError, SegmentUnavailable
from hybrid_layer.ipc import _core
from tests.ipc.compiling import HERE, cc, made_once
from tests.ipc.tools import check, is_clean, layer_of, receive
from tests.support.loops import run
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import cancelled, turns

REFUSALS = {
    "shm_open": (errno.EMFILE, errno.EACCES),
    "open": (errno.EMFILE,),
    "ftruncate": (errno.EFBIG,),
    "posix_fallocate": (errno.EIO, errno.ENOSPC),
    "mmap": (errno.ENOMEM,),
    "madvise": (errno.EINVAL,),
    "fcntl": (errno.ENOLCK,),
    "fstat": (errno.EIO,),
    "stat": (errno.EIO,),
    "chmod": (errno.EPERM,),
    "mkdir": (errno.EACCES,),
    "mkfifo": (errno.ENOSPC,),
    "unlink": (errno.EACCES,),
    "shm_unlink": (errno.EACCES,),
    "rmdir": (errno.EBUSY,),
    "opendir": (errno.EMFILE,),
    "epoll_ctl": (errno.ENOSPC,),
}
"""Function -> with what it fails."""
USED = set(REFUSALS) - ({"madvise", "posix_fallocate"} if _core.PORTABLE else set())
LARGE = "x" * 300_000
"""More than an area has before it grows."""


@pytest.fixture(scope="session")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which calls can be made to fail."""

    def make(directory: Path) -> None:
        flags = ("-std=gnu11", "-shared", "-fPIC", "-O1", "-fno-builtin", "-U_FORTIFY_SOURCE")
        cc(*flags, HERE / "refusals.c", "-o", directory / "refusals.so", "-ldl")

    return {"LD_PRELOAD": str(made_once(tmp_path_factory, "refusals", make) / "refusals.so")}


@pytest.mark.once
def test_each_call_may_be_refused(prefix: str, spawn: Spawn, refusing: dict[str, str]) -> None:
    """An error of ours that says what the system said, or none; nothing is left open, and afterwards all is well."""
    process = spawn("tests.ipc.test_refusals:have_each_refused", prefix, flags=(), environment=refusing)
    assert process.result(100) == USED
    assert is_clean(prefix)


def have_each_refused(parent: Parent, prefix: str) -> set[str]:
    """The functions that were called."""
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    library = ctypes.CDLL(None)
    assert outcome(prefix) is outcome(prefix) is None
    before = len(os.listdir("/proc/self/fd"))
    met = set()
    for function, number in ((function, number) for function, numbers in REFUSALS.items() for number in numbers):
        for n in itertools.count(1):
            library.refuse(function.encode(), n, number)
            failed = outcome(prefix)
            has_refused = library.refused()
            library.refuse(b"", 0, 0)
            what = f"call {n} of {function} fails with {os.strerror(number)}"
            assert failed is None or is_right(*failed, number), f"{what}: {failed}"
            assert outcome(prefix) is None, what
            assert len(os.listdir("/proc/self/fd")) == before, what
            assert is_clean(prefix), what
            if not has_refused:
                break
            met.add(function)
    return met


def outcome(prefix: str) -> tuple[type[Exception], str] | None:
    """The error that `use` raises, without the frames that it and its causes hold."""
    try:
        run(use(prefix))
    except Exception as error:  # noqa: BLE001  # whatever it is, the test judges
        return type(error), str(error)
    finally:
        gc.collect()
    return None


async def use(prefix: str) -> None:
    """Every call of a layer, by its first and only user; with a waiter, and messages for which memory grows."""
    layer = layer_of(prefix)
    own = await layer.new_channel()
    await layer.group_add("group", own)
    waiting = asyncio.create_task(layer.receive(own))
    try:
        await turns()
        await layer.group_send("group", {"n": LARGE})
        await layer.send("normal", {"n": LARGE})
        assert await receive(layer, "normal") == LARGE
        assert (await asyncio.wait_for(waiting, 5))["n"] == LARGE
        await layer.group_discard("group", own)
        await layer.close()
    finally:
        await cancelled(waiting)
        await layer.flush()
        with contextlib.suppress(OSError):  # the portable core may be refused its lock, and then the next user checks
            check(layer)


def is_right(kind: type[Exception], text: str, number: int) -> bool:
    if kind is SegmentUnavailable:
        return os.strerror(number) in text and len(text.split(". ")) > 1
    return issubclass(kind, (HybridLayerError, ChannelFull))


@pytest.mark.parametrize("what", ["size of files", "record locks"])
def test_what_the_system_does_not_grant(prefix: str, spawn: Spawn, refusing: dict[str, str], what: str) -> None:
    """Every call says so, for as long as it is so, and none leaves a descriptor open or a file behind."""
    process = spawn("tests.ipc.test_refusals:fail_often", prefix, what, environment=refusing)
    text = process.result(60)
    words = {
        "size of files": ("File too large", "LimitFSIZE", "message_memory"),
        "record locks": ("No locks available", "/proc/locks"),
    }
    for word in words[what]:
        assert word in text
    assert is_clean(prefix)


def fail_often(parent: Parent, prefix: str, what: str) -> str:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    library = ctypes.CDLL(None)
    layer = layer_of(prefix)

    def restrict() -> None:
        if what == "size of files":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # as where Python is embedded
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        else:
            library.refuse(b"fcntl", -1, errno.ENOLCK)

    async def main() -> str:
        calls: list[Callable[[], Any]] = [
            lambda: layer.send("a", {"n": 1}),
            lambda: layer.receive("a"),
            layer.new_channel,
            lambda: layer.group_add("g", "a"),
            lambda: layer.group_discard("g", "a"),
            lambda: layer.group_send("g", {"n": 1}),
            layer.flush,
            layer.statistics,
        ]
        texts = set()
        before = None
        for _ in range(50):
            for call in calls:
                with pytest.raises(SegmentUnavailable) as refused:
                    await call()
                texts.add(str(refused.value))
            before = before or len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) == before
        (text,) = texts
        return text

    restrict()
    text = run(main())
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    library.refuse(b"", 0, 0)
    run(use(prefix))
    return text
