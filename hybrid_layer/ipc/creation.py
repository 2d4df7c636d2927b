# SPDX-License-Identifier: BSD-3-Clause
"""Makes a segment, and leaves nothing behind if that fails."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import NamedTuple

from hybrid_layer.exceptions import ConfigurationError, HybridLayerError
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.diagnostics import project_of_this_process, shm_room
from hybrid_layer.ipc.lockfile import LockFile
from hybrid_layer.ipc.objects import ROOT, Sizes, create_object, remove_object
from hybrid_layer.ipc.stall_detector import LOCK_REFUSED


class Estate(NamedTuple):
    """What a new segment takes over from the one in whose place it comes."""

    machine: str
    bequeathed: bytes | None = None
    """What the machine knew of its streams; None if that is lost, as the old segment's lock could not be acquired."""


def estate_of(core: _core.Segment, machine: str) -> Estate:
    """What the successor of the retired segment `core` takes over. Waits at most 50 ms for the lock there."""
    try:
        return Estate(machine, core.bequeath())
    except (_core.Detached, _core.NoSlot, _core.Stale, *LOCK_REFUSED):
        return Estate(machine)


def create_segment(
    name: str, lock_file: LockFile, prefix: str, sizes: Sizes, machine: str, estate: Estate | None
) -> int:
    """Make and format the object of a segment. Return its descriptor. Called with the lock file's lock held.

    With an `estate`, it comes in the place of another one. Raises `ConfigurationError`, or `OSError` if the system
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
        name_of_machine, bequeathed = estate or Estate(machine)
        project = project_of_this_process()
        _core.format(fd, lock_fd, *sizes, prefix, project, name_of_machine, seed, estate is not None, bequeathed)
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
