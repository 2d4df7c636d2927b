"""Makes a segment where there is none, and leaves nothing behind where that cannot be done."""

from __future__ import annotations

import contextlib
import os
import secrets

from hybrid_layer.exceptions import ConfigurationError, HybridLayerError
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.diagnostics import project_of_this_process, shm_room
from hybrid_layer.ipc.lockfile import LockFile
from hybrid_layer.ipc.objects import ROOT, create_object, remove_object


def create_segment(name: str, lock_file: LockFile, prefix: str, sizes: tuple[int, int], machine: str) -> int:
    """A descriptor of the object, formatted; `sizes` are message_memory and group_memory. Called with the lock held.

    Raises `ConfigurationError`, or `OSError` for what the system refuses.
    """
    fd = -1
    try:
        if _core.PORTABLE:
            # Who still uses an object whose name is gone holds his locks on the old lock file, sees that go, and moves.
            lock_file.replace()
        fd = create_object(name)
        seed = (secrets.randbits(64), secrets.randbits(64))
        lock_fd = lock_file.fd if _core.PORTABLE else fd
        _core.format(fd, lock_fd, *sizes, prefix, project_of_this_process(), machine, seed)
    except BaseException as error:
        if fd >= 0:
            os.close(fd)
        remove_segment(name, lock_file)
        if not isinstance(error, _core.NoMemory):
            raise
        raise ConfigurationError(
            f"{ROOT} is full ({shm_room()}): there is no room for a segment. Make it larger (docker run "
            f"--shm-size), remove what else fills it, or make the segment smaller with message_memory and "
            f"group_memory."
        ) from None
    return fd


def remove_segment(name: str, lock_file: LockFile) -> None:
    """Remove what was made of a segment that cannot be used. Called with the lock held, while an error is raised."""
    with contextlib.suppress(HybridLayerError):
        remove_object(name)
    lock_file.remove_directory()
