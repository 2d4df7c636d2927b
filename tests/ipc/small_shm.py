"""A /dev/shm of a given size, in a mount namespace of its own, and processes that see it in place of the system's."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import namespaces
from tests.support.process_main import Parent
from tests.support.processes import Process, Spawn


class SmallShm:
    """Processes are put into it with `spawn`; `path` shows it to the test, which stays outside."""

    def __init__(self, spawn: Spawn, holder: int) -> None:
        self._spawn = spawn
        self._holder = holder
        self.path = Path(f"/proc/{holder}/root/dev/shm")  # as the holder sees it: by no other name is it seen from here

    def spawn(self, target: str, *args: Any) -> Process:
        return self._spawn("tests.ipc.small_shm:enter", self._holder, target, *args)

    def fill(self, leave: int = 0) -> Path:
        """A stranger's file that takes all but `leave` bytes."""
        path = self.path / "filler"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, bytes(1 << 16))
        os.close(fd)
        os.truncate(path, path.stat().st_size - leave)
        return path

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


@contextlib.contextmanager
def small_shm(spawn: Spawn, options: str) -> Iterator[SmallShm]:
    """`options` are those of a tmpfs: "size=16m"."""
    holder = spawn("tests.ipc.small_shm:hold", options)
    error = holder.ready()
    if error is not None:
        assert holder.result() is None
        pytest.skip(f"no mount namespace of one's own here: {error}. The tests with a small message_memory stand in.")
    yield SmallShm(spawn, holder.pid)
    holder.send(None)
    holder.result()


def hold(parent: Parent, options: str) -> None:
    """Keeps the namespace in being."""
    try:
        namespaces.unshare(namespaces.MOUNTS)
        namespaces.mount("tmpfs", "/dev/shm", options)
    except OSError as error:
        parent.ready(str(error))
        return
    parent.ready()
    parent.receive()


def enter(parent: Parent, holder: int, target: str, *args: Any) -> Any:
    namespaces.enter(holder, namespaces.MOUNTS)
    os.chdir("/")
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(parent, *args)
