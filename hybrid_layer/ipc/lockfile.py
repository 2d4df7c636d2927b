"""The lock file under which a segment is made, attached and removed, and whose files in /dev/shm may be trusted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from hybrid_layer.exceptions import ConfigurationError, SegmentBusy

PATIENCE = 10.0
"""Seconds that a process waits for others to finish attaching."""


class LockFile:
    """The file ``lock`` in a segment's directory, with a record lock on it for who attaches or leaves.

    Its descriptor is opened once for each process: closing any descriptor of a file drops the process's record locks.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / "lock"
        self._fd = -1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock. Makes directory and file if need be. Raises `SegmentBusy` after 10 seconds."""
        until = time.monotonic() + PATIENCE
        while not self._try():
            if time.monotonic() > until:
                raise SegmentBusy(
                    f"Another process holds {self._path} and does not go on; it may be stopped. `fuser {self._path}` "
                    f"names it."
                )
            time.sleep(0.005)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove_directory(self) -> None:
        """Remove the directory with all that is in it. Called with the lock held, which excludes nobody afterwards."""
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                if path != self._path:
                    path.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)  # last: from here on others may make all of it anew
            self.directory.rmdir()

    def _try(self) -> bool:
        if self._fd < 0:
            self._make_directory()
            try:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:  # the last leaver has just removed the directory
                return False
            try:
                check_owner(os.fstat(self._fd), self._path)
            except ConfigurationError:
                self.close()
                raise
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        # The last leaver removes the file; a lock on a removed file excludes nobody.
        if is_same_file(self._fd, self._path):
            return True
        self.close()
        return False

    def _make_directory(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            check_owner(os.lstat(self.directory), self.directory)


def check_owner(status: os.stat_result, path: Path) -> None:
    """Raise `ConfigurationError` for a file of another user, or one that others may open."""
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to user {status.st_uid}, not to this process's user {os.geteuid()}. Remove it, or use "
            f"another prefix."
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigurationError(
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):o}). Remove it, or use another prefix."
        )


def is_same_file(fd: int, path: Path) -> bool:
    """Whether a descriptor is that of the file which is now at `path`."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
