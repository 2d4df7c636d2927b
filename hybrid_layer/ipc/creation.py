"""Makes a segment, and leaves nothing behind if that fails."""

from __future__ import annotations

import contextlib
import os
import secrets

from hybrid_layer.exceptions import ConfigurationError, HybridLayerError
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.diagnostics import project_of_this_process, shm_room
from hybrid_layer.ipc.lockfile import LockFile
from hybrid_layer.ipc.objects import ROOT, Sizes, create_object, remove_object


def create_segment(name: str, lock_file: LockFile, prefix: str, sizes: Sizes, machine: str) -> int:
    """Make and format the object of a segment. Return its descriptor. Called with the lock file's lock held.

    Raises `ConfigurationError`, or `OSError` if the system
    refuses something.
    """
    fd = -1
    try:
        if _core.PORTABLE:
            # Processes that use an unlinked object hold their locks on the old lock file. They see it go, and move.
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
    """Remove a segment that could not be made. Called with the lock file's lock held, while an error is raised."""
    with contextlib.suppress(HybridLayerError):
        remove_object(name)
    lock_file.remove_directory()
