# SPDX-License-Identifier: BSD-3-Clause
"""The lock file, whose lock is held while a segment is made, attached or removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.diagnostics import busy
from hybrid_layer.ipc.objects import Descriptor, inode_of
from hybrid_layer.ipc.ownership import check_ours, refusals, refuse
from hybrid_layer.ipc.stall_detector import PAUSE, Contended, StallDetector

_NAP = 0.005
"""Seconds between two tries. Attaching takes one or two milliseconds."""


class LockFile(Descriptor):
    """The file ``lock`` in a segment's directory. A process that attaches or leaves holds a record lock on it.

    Each process opens it once, since closing any descriptor of a file drops the process's record locks on it.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self._path = directory / "lock"

    @contextlib.contextmanager
    def held(self, *, while_progressing: bool = False) -> Iterator[None]:
        """Hold the lock. Makes the directory and the file if they do not exist.

        Raises `Contended` after 50 ms. With `while_progressing` it waits for as long as holders make progress, and then
        raises `SegmentBusy`.
        """
        detector = StallDetector()
        until = monotonic() + PAUSE
        while not self._try():
            if while_progressing:
                contended = self._contended()
                if detector.is_stalled(contended.holder):
                    raise busy(contended)
            elif monotonic() > until:
                raise self._contended()
            time.sleep(_NAP)
        try:
            yield
        finally:
            self._unlock()

    def _unlock(self) -> None:
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_UN, 1)
        except OSError as error:
            if _core.PORTABLE:  # the locks of the process's slot are on this file, too
                refuse(error, self._path)
            self.close()  # which drops its locks

    def replace(self) -> None:
        """Put a new file in its place, with its lock held. Processes that use the old one see that it is gone."""
        path = self._path.with_name("lock.new")
        path.unlink(missing_ok=True)  # left by a process that was killed here
        new = self._open(path)
        try:
            fcntl.lockf(new.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            path.rename(self._path)
        except BaseException:
            new.close()
            raise
        self.close()
        self.fd, self.inode = new.fd, new.inode

    def remove_directory(self) -> None:
        """Remove the directory with its content. Called with the lock held. It excludes no process afterwards."""
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                if path != self._path:
                    path.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)  # last: from here on others may make everything again
            self.directory.rmdir()

    def _contended(self) -> Contended:
        pid = _core.record_lock_pid(self.fd) if self.fd >= 0 else None
        return Contended(f"The lock file {self._path}", (self._path, pid), pid, is_queue=True)

    def _try(self) -> bool:
        if not self.is_ours():
            self._make_directory()
            try:
                new = self._open(self._path)
                self.fd, self.inode = new.fd, new.inode
            except FileNotFoundError:  # the last process to leave has just removed the directory
                return False
            except OSError as error:
                with contextlib.suppress(OSError):
                    self.directory.rmdir()  # if this call has made it
                refuse(error, self._path)
        with refusals(self._path):
            return self._try_lock()

    def _try_lock(self) -> bool:
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        # The last process to leave removes the file. A lock on a removed file excludes no process.
        try:
            if inode_of(os.lstat(self._path)) == self.inode:
                return True
        except FileNotFoundError:
            pass
        except OSError:
            self._unlock()
            raise
        self.close()
        return False

    def _open(self, path: Path) -> Descriptor:
        """Open a file, or make it. Checks that it is ours, and makes it readable and writable."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(path, flags, 0o600)
        except PermissionError:
            if not allow_owner(path, 0o600):
                raise
            fd = os.open(path, flags, 0o600)
        try:
            self._make_ours(fd)
            return Descriptor(fd)
        except BaseException:
            os.close(fd)
            raise

    def _make_ours(self, fd: int) -> None:
        status = os.fstat(fd)
        check_ours(status, self._path)
        if status.st_nlink > 1:  # locks taken under its other name would be ours, too
            raise ConfigurationError(
                f"{self._path} is a file with another name (hard link). Remove it, or use another prefix."
            )
        if status.st_mode & 0o600 != 0o600:  # due to a umask
            os.fchmod(fd, 0o600)

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(mode=0o700)
        except FileExistsError:  # no exist_ok: that looks a second time, and the directory may be gone by then
            pass
        except OSError as error:
            refuse(error, self.directory)
        # If it is gone again, the last process to leave has just removed it.
        with refusals(self.directory), contextlib.suppress(FileNotFoundError):
            check_ours(os.lstat(self.directory), self.directory, "directory")
            allow_owner(self.directory, 0o700)


def allow_owner(path: Path, mode: int) -> bool:
    """Give the owner of `path` the rights in `mode`, which a umask may have removed. False: it has them already."""
    if os.lstat(path).st_mode & mode == mode:
        return False
    os.chmod(path, mode)
    return True
