# SPDX-License-Identifier: BSD-3-Clause
"""Removes segments of any prefix that no process uses any more, and that hold nothing that is still needed.

The last process that uses a segment removes it at its exit. But uvicorn, gunicorn's workers and granian stop at a
signal, close their loops, and then raise the signal again with its default action. A process without a handler, such as
runworker's, ends at once. Neither runs any code after that. So later processes of the user remove what they left,
whatever its prefix. Otherwise test runs, each with a prefix of its own, would fill /dev/shm.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterable
from pathlib import Path

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.ipc import _core, objects
from hybrid_layer.ipc.lockfile import LockFile
from hybrid_layer.ipc.stall_detector import LOCK_REFUSED, Contended

MOST = 64
"""The most segments that one process looks at."""
_SECONDS = 0.001
"""The time limit, after which no further segment is looked at: it delays the start of a process."""
_FIRST = 2
"""The segments that were left last come first. Others follow in random order, so that each is looked at some day."""
_DESCRIPTORS = Path("/dev/fd")


def sweep() -> None:
    """Look at the segments of this user. No thread of this process may attach or leave meanwhile."""
    try:
        names = _some_of(_names())
        own = _inodes(map(int, os.listdir(_DESCRIPTORS))) if names else set()
    except OSError:
        return  # without /proc, or without a free descriptor, other processes have to do it
    until = monotonic() + _SECONDS
    for number, name in enumerate(names):
        if number >= _FIRST and monotonic() > until:
            return
        # Closing a descriptor of a file drops the record locks that the process has on it.
        if own.isdisjoint(_inodes([objects.lock_bearer(name), objects.directory_of(name) / "lock"])):
            remove_if_left(name)


def _some_of(names: list[str]) -> list[str]:
    # The end of a loop removes its doorbell, which changes the directory's time. The latest come first: many older ones
    # may be kept for their content, and each takes a millisecond.
    latest_first = sorted(names, key=lambda name: _time_of(objects.directory_of(name)), reverse=True)
    latest, others = latest_first[:_FIRST], latest_first[_FIRST:]
    return [*latest, *random.sample(others, min(MOST - _FIRST, len(others)))]


def _time_of(path: Path) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _names() -> list[str]:
    start, end = f"hybrid_layer.{os.geteuid()}.", f".{_core.LAYOUT_VERSION}"
    found = {entry.removesuffix(".d") for entry in os.listdir(objects.ROOT) if entry.startswith(start)}
    return [name for name in found if name.endswith(end)]


def remove_if_left(name: str, even_if_needed: bool = False) -> bool:
    """Remove a segment that no process uses, unless its content is still needed. Return whether it is gone.

    False also if it cannot be removed now. This process must not use it.
    """
    with contextlib.suppress(Contended, HybridLayerError, OSError, _core.NoSlot, *LOCK_REFUSED):
        return _remove_if_left(name, even_if_needed)
    return False


def _remove_if_left(name: str, even_if_needed: bool) -> bool:
    if objects.is_inhabited(name):
        return False
    lock_file = LockFile(objects.directory_of(name))
    try:
        with lock_file.held():  # so no process attaches to it
            fd = objects.open_object(name)
            if fd is not None:
                try:
                    if _is_left(fd, lock_file, even_if_needed):
                        objects.remove_object(name)
                finally:
                    os.close(fd)
            if objects.object_exists(name):
                return False
            lock_file.remove_directory()
            return True
    finally:
        lock_file.close()


def _is_left(fd: int, lock_file: LockFile, even_if_needed: bool) -> bool:
    core = _core.Segment(fd, lock_file.fd if _core.PORTABLE else fd, str(lock_file.directory))
    if not core.is_deserted():
        return False
    if core.retired or even_if_needed:
        return True  # its processes have moved, or have died
    core.join()
    try:
        needed = core.is_needed()
    finally:
        core.leave()
    return not needed


def _inodes(places: Iterable[int | Path]) -> set[tuple[int, int]]:
    """Device and inode of the files at these descriptors and paths, as far as they exist."""
    found = set()
    for place in places:
        with contextlib.suppress(OSError):
            found.add(objects.inode_of(os.stat(place) if isinstance(place, int) else os.lstat(place)))
    return found
