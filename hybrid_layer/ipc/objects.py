# SPDX-License-Identifier: BSD-3-Clause
"""The shared-memory object of a segment, by its name, and the directory of the files beside it: FIFOs, a lock file.

On Linux both are in /dev/shm. Other systems have no directory of objects, so the portable build finds them by name
alone, and keeps its files in /tmp. It does not use $TMPDIR, which may differ between processes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import posix_ipc

from hybrid_layer.ipc import _core
from hybrid_layer.ipc.ownership import check_ours, refusals, refused

ROOT = Path("/tmp" if _core.PORTABLE else "/dev/shm")
"""The parent of each segment's directory, and on Linux of its object."""


class Sizes(NamedTuple):
    """The most bytes that a segment has for unread messages, and for groups."""

    message_memory: int
    group_memory: int

    def __str__(self) -> str:
        return f"message_memory={self.message_memory} and group_memory={self.group_memory}"


def digest(prefix: str) -> str:
    """A hash of `prefix` for file names, which cannot hold all of its characters."""
    return hashlib.sha256(prefix.encode()).hexdigest()[:16]


def segment_name(prefix: str, uid: int) -> str:
    """The name of the segment of the user `uid` for `prefix`."""
    return f"hybrid_layer.{uid}.{digest(prefix)}.{_core.LAYOUT_VERSION}"


def directory_of(name: str) -> Path:
    """The directory of the doorbells and the lock file of the segment `name`."""
    return ROOT / f"{name}.d"


def lock_bearer(name: str) -> Path:
    """The file with the record locks of the segment's processes: the object, or the lock file in the portable build.

    A segment without this file is gone.
    """
    return directory_of(name) / "lock" if _core.PORTABLE else ROOT / name


def label(name: str) -> str:
    """The object, in words."""
    return f"the shared-memory object {_posix_name(name)}" if _core.PORTABLE else str(ROOT / name)


def open_object(name: str, *, read_only: bool = False, of_any_user: bool = False) -> int | None:
    """A descriptor of the object, or None if there is none.

    Raises `ConfigurationError` if it is another user's, unless it is `of_any_user` and the system lets us open it.
    """
    try:
        fd: int = posix_ipc.SharedMemory(_posix_name(name), read_only=read_only).fd
    except posix_ipc.ExistentialError:
        return None
    except (posix_ipc.Error, OSError, ValueError) as error:  # ValueError: a directory
        raise refused(_as_os_error(error), label(name)) from error
    try:
        with refusals(label(name)):
            os.set_inheritable(fd, False)
            if not of_any_user:
                check_ours(os.fstat(fd), label(name))
    except BaseException:
        os.close(fd)
        raise
    return fd


def create_object(name: str) -> int:
    """A descriptor of a new, empty object, which only its owner may open. Raises `ConfigurationError`."""
    try:
        fd: int = posix_ipc.SharedMemory(_posix_name(name), posix_ipc.O_CREX, mode=0o600).fd
    except (posix_ipc.Error, OSError, ValueError) as error:
        raise refused(_as_os_error(error), label(name)) from error
    try:
        with refusals(label(name)):
            os.set_inheritable(fd, False)
            if not _core.PORTABLE:  # despite a umask; macOS has no fchmod for objects
                os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        remove_object(name)
        raise
    return fd


def remove_object(name: str) -> None:
    """Remove the object, if there is one. Processes that have attached it keep it. Raises `ConfigurationError`."""
    try:
        posix_ipc.unlink_shared_memory(_posix_name(name))
    except posix_ipc.ExistentialError:
        pass
    except (posix_ipc.Error, OSError) as error:
        raise refused(_as_os_error(error), label(name)) from error


def object_exists(name: str) -> bool:
    """Whether there is an object of that name."""
    if not _core.PORTABLE:
        return lock_bearer(name).exists()  # opening and closing it would drop our record locks on it
    fd = open_object(name)
    if fd is not None:
        os.close(fd)
    return fd is not None


def is_inhabited(name: str) -> bool:
    """Whether a process uses the segment `name`, by its record locks. Raises `OSError`.

    Closing a descriptor drops our record locks on the file, so this process must not use that segment itself.
    """
    try:
        fd = os.open(lock_bearer(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False  # there is only a directory
    try:
        return _core.is_inhabited(fd)
    finally:
        os.close(fd)


def inode_of(status: os.stat_result) -> tuple[int, int]:
    """What tells a file from all others: its device and inode."""
    return status.st_dev, status.st_ino


class Descriptor:
    """A descriptor of ours. Other code may close it, and perhaps open another file under its number."""

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        self.inode = inode_of(os.fstat(fd)) if fd >= 0 else (0, 0)

    def is_ours(self) -> bool:
        """Whether the descriptor still leads to our file."""
        try:
            return self.fd >= 0 and inode_of(os.fstat(self.fd)) == self.inode
        except OSError as error:
            return error.errno != errno.EBADF  # if the system does not say, it is ours, or it would never be closed

    def is_at(self, path: Path | str) -> bool:
        """Whether our file is open, and is now at `path`."""
        try:
            return self.is_ours() and inode_of(os.lstat(path)) == self.inode
        except OSError:
            return False

    def close(self) -> None:
        """Close the descriptor, unless other code did."""
        if self.is_ours():
            os.close(self.fd)
        self.fd = -1


def make_doorbell(path: str) -> Descriptor:
    """Make a doorbell at `path`, in place of an older file. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.mkfifo(path, 0o600)
    os.chmod(path, 0o600)  # despite a umask
    # Opened for writing, too. Otherwise it would be at its end, and readable for ever, once the last writer has closed
    # it.
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return Descriptor(fd)
    except OSError:
        os.close(fd)
        raise


def remove_stale_doorbells(directory: Path, core: _core.Segment) -> None:
    """Remove the doorbells of killed processes. Raises `OSError`."""
    try:
        # Listed first: a process publishes its slot before it makes a doorbell, so it is seen below.
        paths = [path for path in directory.iterdir() if path.name[:1].isdigit()]
    except FileNotFoundError:
        return
    alive = {f"{slot}.{generation}" for slot, generation, _, is_alive in core.processes() if is_alive}
    for path in paths:
        if path.name.rpartition(".")[0] not in alive:
            path.unlink(missing_ok=True)


def _as_os_error(error: Exception) -> OSError:
    """The system's error behind an error of posix_ipc, which has its own classes and texts for some."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    number = errno.EINVAL if isinstance(error, ValueError) else errno.EACCES
    if isinstance(error, OSError):
        number = errno.ENFILE if "system limit" in str(error) else errno.EMFILE
    return OSError(number, os.strerror(number))


def _posix_name(name: str) -> str:
    if not _core.PORTABLE:
        return f"/{name}"
    # macOS takes names of up to 31 characters.
    return f"/hl.{hashlib.sha256(name.encode()).hexdigest()[:24]}"
