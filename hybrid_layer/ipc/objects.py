"""The shared-memory object of a segment, by its name, and the place for the files beside it.

On Linux both lie in /dev/shm. Other systems show their objects in no directory, so the portable build finds them by
name alone, and has its files in /tmp: not in $TMPDIR, or processes that differ in it would not meet.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import posix_ipc

from hybrid_layer.ipc import _core
from hybrid_layer.ipc.ownership import check_ours, refusals, refused

ROOT = Path("/tmp" if _core.PORTABLE else "/dev/shm")
"""Holds the directory of each segment, and on Linux its object."""


def digest(prefix: str) -> str:
    """What stands for a prefix in names: it may hold characters that a file name cannot."""
    return hashlib.sha256(prefix.encode()).hexdigest()[:16]


def segment_name(prefix: str, uid: int) -> str:
    """The name of a user's segment for a prefix."""
    return f"hybrid_layer.{uid}.{digest(prefix)}.{_core.LAYOUT_VERSION}"


def directory_of(name: str) -> Path:
    """Where the doorbells and the lock file of the segment `name` are."""
    return ROOT / f"{name}.d"


def lock_bearer(name: str) -> Path:
    """The file on which the segment's processes hold their record locks: the object, or where that takes none, the lock
    file. With it goes the segment.
    """
    return directory_of(name) / "lock" if _core.PORTABLE else ROOT / name


def label(name: str) -> str:
    """How people find the object."""
    return f"the shared-memory object {_posix_name(name)}" if _core.PORTABLE else str(ROOT / name)


def open_object(name: str) -> int | None:
    """A descriptor of the object, None if there is none. Raises `ConfigurationError` if it is a stranger's."""
    try:
        fd: int = posix_ipc.SharedMemory(_posix_name(name)).fd
    except posix_ipc.ExistentialError:
        return None
    except (posix_ipc.Error, OSError, ValueError) as error:  # ValueError: a directory
        raise refused(_as_os_error(error), label(name)) from error
    try:
        with refusals(label(name)):
            os.set_inheritable(fd, False)
            check_ours(os.fstat(fd), label(name))
    except BaseException:
        os.close(fd)
        raise
    return fd


def create_object(name: str) -> int:
    """A descriptor of a new object without size, for its owner only."""
    try:
        fd: int = posix_ipc.SharedMemory(_posix_name(name), posix_ipc.O_CREX, mode=0o600).fd
    except (posix_ipc.Error, OSError, ValueError) as error:
        raise refused(_as_os_error(error), label(name)) from error
    try:
        with refusals(label(name)):
            os.set_inheritable(fd, False)
            if not _core.PORTABLE:  # a umask may have taken that away; macOS has no fchmod for objects
                os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        remove_object(name)
        raise
    return fd


def remove_object(name: str) -> None:
    """Remove it if it is there. Who has attached it keeps it."""
    try:
        posix_ipc.unlink_shared_memory(_posix_name(name))
    except posix_ipc.ExistentialError:
        pass
    except (posix_ipc.Error, OSError) as error:
        raise refused(_as_os_error(error), label(name)) from error


def object_exists(name: str) -> bool:
    """Whether the name leads to an object."""
    if not _core.PORTABLE:
        return lock_bearer(name).exists()  # opened and closed, our record locks on it would be gone
    fd = open_object(name)
    if fd is not None:
        os.close(fd)
    return fd is not None


def is_file(what: int | str, inode: tuple[int, int]) -> bool:
    """Whether a descriptor is open, or a path there, and that of the file with these numbers (device, inode)."""
    try:
        status = os.fstat(what) if isinstance(what, int) else os.lstat(what)  # stat(-1) reads no descriptor
    except OSError as error:
        # Without an answer a descriptor is taken for what it was, or it would never be closed.
        return isinstance(what, int) and error.errno != errno.EBADF
    return (status.st_dev, status.st_ino) == inode


def is_same_file(fd: int, path: Path) -> bool:
    """Whether a descriptor is that of the file which is now at `path`."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _as_os_error(error: Exception) -> OSError:
    """posix_ipc has errors of its own for some of the system's, and texts of its own for others."""
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
