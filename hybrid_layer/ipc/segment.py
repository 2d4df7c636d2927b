"""The shared segment as one process has it: found or made, attached once, given back by the last who uses it.

A segment belongs to one user, prefix and layout version. It is a shared-memory object and a directory beside it, both for
their owner only; the directory holds the doorbells and the lock file. Attaching, making, replacing and removing happen
under a record lock on the lock file, so 50 processes may start at once, and what a killed maker left unfinished is
replaced by the next one.

Closing any descriptor of a file drops all record locks that the process has on it. Hence one `LocalSegment` for each
process and prefix, which all layer objects share, and which opens lock file and segment once.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import posix_ipc

from hybrid_layer import identity
from hybrid_layer.exceptions import ConfigurationError, HybridLayerError, SegmentBusy, SegmentDamaged, TooManyProcesses
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.station import Station
from hybrid_layer.loops import LoopLocal
from hybrid_layer.statistics import warn

SHM = Path("/dev/shm")
_PATIENCE = 10.0
"""Seconds that a process waits for others to finish attaching."""


class LocalSegment:
    """This process's attachment to one segment.

    `core` is replaced when the process has to move (see `move`), and `moves` counts that: whoever registered something in
    the segment compares it and registers anew.
    """

    def __init__(self, prefix: str, message_memory: int, group_memory: int) -> None:
        self.prefix = prefix
        self.message_memory = message_memory
        self.group_memory = group_memory
        self.name = segment_name(prefix, os.geteuid())
        self.directory = SHM / f"{self.name}.d"
        self.users = 0
        self.moves = 0
        self._has_left = False
        self._lock = threading.Lock()
        self._identity = identity.current()
        self._lock_fd = -1
        self._fd = -1
        self._inode = (0, 0)
        self.wakers: dict[int, Callable[[], None]] = {}
        """Loop number -> wake that loop of this process; see `wake_loops`."""
        self.stations = self._new_stations()
        self.core = self._attach()

    def is_own(self) -> bool:
        """Whether this process, not a parent of it, has attached, and has not left."""
        return self._identity is identity.current() and not self._has_left

    def join(self) -> None:
        """Take a slot in a forked child, which has inherited everything but that. Called when an operation says so."""
        if self._identity is identity.current():
            identity.renew()  # forked by code that runs no hooks
        self._identity = identity.current()
        self._lock = threading.Lock()  # the inherited one may be held by a thread that does not exist here
        # The parent's descriptors carry no lock of ours and stay open: closing one would drop those that we take now.
        # Code that makes daemons may have closed them, and opened other files under their numbers.
        self._lock_fd = -1
        for station in self.stations.all():
            station.close()  # of the parent's loops, which do not run here
        self.wakers = {}
        self.stations = self._new_stations()
        if self._has_descriptor():
            with self._exclusively():
                self._join(self.core)
        else:
            self.core = self._attach()
        self.moves += 1

    def recover_if_lost(self) -> bool:
        """Move to a new segment if this one cannot be used any more. True: moved, or tried to."""
        core = self.core
        reason = core.lost() if self.is_own() else None
        if reason is None or reason == "fork":
            return False
        warn(
            ("lost", self.name),
            "The shared segment of prefix %r was lost (%s): something removed it or closed its descriptors, such as "
            "systemd's RemoveIPC or a cleaned /dev/shm. Moving to a new one; unread messages are gone.",
            self.prefix,
            reason,
        )
        try:
            self._recover(core)
        except HybridLayerError as error:
            warn(("move", self.name), "Cannot move to a new segment: %s", error)
        return True

    def _recover(self, lost: _core.Segment) -> None:
        with self._lock:
            if self.core is not lost or self._has_left:
                return  # another loop was here first, or the interpreter is ending
            lost.retire()  # who shares it sees that, and moves too
            old_fd = self._fd if self._has_inode() else -1
            self.core = self._attach()
            if old_fd >= 0:
                os.close(old_fd)
            self.moves += 1

    def wake_loops(self, loops: int) -> None:
        """Wake event loops of this process: bit n is the loop with number n."""
        number = 0
        while loops:
            if loops & 1:
                waker = self.wakers.get(number)
                if waker is not None:
                    waker()
            loops >>= 1
            number += 1

    def _new_stations(self) -> LoopLocal[Station]:
        return LoopLocal(lambda loop: Station(self, loop), Station.close)

    def leave(self) -> None:
        """Give the slot back, and remove a segment that nobody uses and nothing is left in."""
        with self._lock, contextlib.suppress(SegmentBusy, OSError), self._exclusively():
            if self._has_left or not self.core.attached:
                return
            self._has_left = True
            needed = True
            with contextlib.suppress(_core.Busy, _core.Damaged):
                needed = self.core.is_needed()
            with contextlib.suppress(_core.Busy, _core.Damaged):
                self.core.leave()
            if not needed and self.core.is_deserted() and self._is_current():
                posix_ipc.unlink_shared_memory(f"/{self.name}")
                self._remove_directory()
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    def remove_stale_doorbells(self) -> None:
        """Remove the doorbells that processes left behind when they were killed."""
        alive = {f"{slot}.{generation}" for slot, generation, _, is_alive in self.core.processes() if is_alive}
        with contextlib.suppress(FileNotFoundError):
            for path in self.directory.iterdir():
                if path.name[:1].isdigit() and path.name.rpartition(".")[0] not in alive:
                    path.unlink(missing_ok=True)

    # Attaching

    def _attach(self) -> _core.Segment:
        with self._exclusively():
            for _ in range(3):  # found, replaced, made
                fd, is_new = self._open_or_create()
                try:
                    core = _core.Segment(fd, str(self.directory))
                except _core.Damaged as reason:
                    # Under the lock nobody is in the middle of making it: its maker was killed, or it is no segment.
                    self._replace(fd, f"a segment that cannot be used ({reason})")
                    continue
                if not is_new and self._has_other_sizes(core):
                    if not core.is_deserted():
                        os.close(fd)
                        raise ConfigurationError(self._other_sizes(core))
                    self._replace(fd, None)
                    continue
                self._join(core)
                status = os.fstat(fd)
                self._fd = fd
                self._inode = (status.st_dev, status.st_ino)
                if not is_new:
                    self._warn_of_another_project(core)
                self._warn_of_neighbours()
                return core
            raise SegmentDamaged(f"{SHM / self.name} cannot be made; something else writes to it.")

    def _join(self, core: _core.Segment) -> None:
        try:
            core.join()
        except _core.NoSlot:
            raise TooManyProcesses(
                f"The segment {self.name} has no slot left: {_core.SLOTS} processes use prefix {self.prefix!r}. "
                f"Give some of them another prefix."
            ) from None
        except _core.Busy:
            raise SegmentBusy(f"The segment {self.name} is locked by {holder(core)}, which does not go on.") from None
        except _core.Damaged:
            raise SegmentDamaged(f"The segment {self.name} cannot be repaired; remove {SHM / self.name}.") from None

    def _open_or_create(self) -> tuple[int, bool]:
        with contextlib.suppress(posix_ipc.ExistentialError):
            fd = posix_ipc.SharedMemory(f"/{self.name}").fd
            os.set_inheritable(fd, False)
            self._check_owner(os.fstat(fd), SHM / self.name)
            return fd, False
        fd = posix_ipc.SharedMemory(f"/{self.name}", posix_ipc.O_CREX, mode=0o600).fd
        os.set_inheritable(fd, False)
        seed = (secrets.randbits(64), secrets.randbits(64))
        try:
            _core.format(
                fd,
                self.message_memory,
                self.group_memory,
                self.prefix,
                project_of_this_process(),
                identity.random_id(),
                seed,
            )
        except _core.NoMemory:
            os.close(fd)
            posix_ipc.unlink_shared_memory(f"/{self.name}")
            raise ConfigurationError(
                f"There is no room in {SHM} for a segment; it is {shm_room()}. Make it larger (docker run --shm-size), "
                f"or the segment smaller with message_memory and group_memory."
            ) from None
        return fd, True

    def _replace(self, fd: int, warning: str | None) -> None:
        if warning is not None:
            warn(("replaced", self.name), "Replacing %s at %s.", warning, SHM / self.name)
        posix_ipc.unlink_shared_memory(f"/{self.name}")
        os.close(fd)

    def _has_other_sizes(self, core: _core.Segment) -> bool:
        return (core.message_bytes, core.group_bytes) != (self.message_memory, self.group_memory)

    def _other_sizes(self, core: _core.Segment) -> str:
        pids = ", ".join(str(pid) for _, _, pid, is_alive in core.processes() if is_alive)
        return (
            f"The segment of prefix {self.prefix!r} has message_memory={core.message_bytes} and "
            f"group_memory={core.group_bytes}, and processes that use it (pid {pids}); this process is configured with "
            f"message_memory={self.message_memory} and group_memory={self.group_memory}. Use the same sizes, stop those "
            f"processes first, or use another prefix."
        )

    # The lock file

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        until = time.monotonic() + _PATIENCE
        while not self._try_lock():
            if time.monotonic() > until:
                raise SegmentBusy(
                    f"Another process holds {self.directory / 'lock'} and does not go on; it may be stopped. "
                    f"`fuser {self.directory / 'lock'}` names it."
                )
            time.sleep(0.005)
        try:
            yield
        finally:
            if self._lock_fd >= 0:
                fcntl.lockf(self._lock_fd, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        path = self.directory / "lock"
        if self._lock_fd < 0:
            self._make_directory()
            try:
                self._lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:  # the last leaver has just removed the directory
                return False
            self._check_owner(os.fstat(self._lock_fd), path)
        try:
            fcntl.lockf(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        # The last leaver removes the file; a lock on a removed file excludes nobody.
        if _is_same_file(self._lock_fd, path):
            return True
        os.close(self._lock_fd)
        self._lock_fd = -1
        return False

    def _make_directory(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            self._check_owner(os.lstat(self.directory), self.directory)

    def _remove_directory(self) -> None:
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                path.unlink(missing_ok=True)
            self.directory.rmdir()

    def _is_current(self) -> bool:
        return _is_same_file(self._fd, SHM / self.name)

    def _has_descriptor(self) -> bool:
        return self._has_inode() and os.fstat(self._fd).st_nlink > 0

    def _has_inode(self) -> bool:
        try:
            status = os.fstat(self._fd)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._inode

    def _check_owner(self, status: os.stat_result, path: Path) -> None:
        if status.st_uid != os.geteuid():
            raise ConfigurationError(
                f"{path} belongs to user {status.st_uid}, not to this process's user {os.geteuid()}. Remove it, or use "
                f"another prefix."
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError(
                f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):o}). Remove it, or use another prefix."
            )

    # What people meet

    def _warn_of_another_project(self, core: _core.Segment) -> None:
        mine, theirs = project_of_this_process(), core.project
        if mine and theirs and mine != theirs:
            warn(
                ("project", self.name),
                "Two projects share the channel layer prefix %r: %s made its segment, and this is %s. They see each other's "
                "messages. Give one of them another prefix; tests want a random one.",
                self.prefix,
                theirs,
                mine,
            )

    def _warn_of_neighbours(self) -> None:
        for path in SHM.glob(f"hybrid_layer.*.{_digest(self.prefix)}.*"):
            uid, _, version = path.name.removeprefix("hybrid_layer.").partition(f".{_digest(self.prefix)}.")
            if not uid.isdigit() or not version.isdigit():
                continue
            if int(uid) != os.geteuid():
                warn(
                    ("user", self.name),
                    "User %s has a segment of the same prefix %r, and this process is user %s: processes of different "
                    "users do not see each other's messages. Run them as one user, or set hosts and "
                    'routes={"<channel>": "remote"}.',
                    uid,
                    self.prefix,
                    os.geteuid(),
                )
            elif int(version) != _core.LAYOUT_VERSION:
                warn(
                    ("version", self.name),
                    "Another release of hybrid_layer runs with the same prefix %r: its normal channels and this one's do not "
                    "meet. Restart the older processes.",
                    self.prefix,
                )


def _digest(prefix: str) -> str:
    return hashlib.sha256(prefix.encode()).hexdigest()[:16]


def segment_name(prefix: str, uid: int) -> str:
    """The name in /dev/shm. The prefix may hold characters that a file name cannot, hence its digest."""
    return f"hybrid_layer.{uid}.{_digest(prefix)}.{_core.LAYOUT_VERSION}"


def project_of_this_process() -> str:
    """Django's settings module and base directory, as far as they are known; empty outside a project."""
    from django.conf import settings

    if not settings.configured:
        return ""
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    base = getattr(settings, "BASE_DIR", "")
    return f"{module} in {base}"[:190] if module and base else ""


def holder(core: _core.Segment) -> str:
    """Who holds the segment's lock, for an error message."""
    slot = (core.lock_word >> 1 & 0x7FF) - 1
    for number, _, pid, _ in core.processes():
        if number == slot:
            return f"process {pid} ({_process_name(pid)})"
    return "a process that is just leaving"


def _process_name(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return f"{process.name()}, {process.status()}"
    except psutil.Error:
        return "of another pid namespace"


def shm_room() -> str:
    """Size and free space of /dev/shm, for people."""
    import psutil

    usage = psutil.disk_usage(str(SHM))
    return f"{usage.total >> 20} MiB large with {usage.free >> 20} MiB free"


def _is_same_file(fd: int, path: Path) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


# One attachment for each process and prefix.

_segments: dict[str, LocalSegment] = {}
# Reentrant: the garbage collector may release a layer at any allocation, also at one made under this lock.
_registry_lock = threading.RLock()


def acquire(prefix: str, message_memory: int, group_memory: int) -> LocalSegment:
    """The process's attachment to the segment of `prefix`, made at first use. Give it back with `release`.

    Raises `ConfigurationError` (sizes differ from those of a segment in use; a stranger's files; no room),
    `TooManyProcesses`, `SegmentBusy`, `SegmentDamaged`.
    """
    with _registry_lock:
        segment = _segments.get(prefix)
        if segment is None:
            segment = _segments[prefix] = LocalSegment(prefix, message_memory, group_memory)
        elif (segment.message_memory, segment.group_memory) != (message_memory, group_memory):
            raise ConfigurationError(
                f"Two layers of this process use prefix {prefix!r} with different sizes: message_memory="
                f"{segment.message_memory} and {message_memory}, group_memory={segment.group_memory} and {group_memory}."
            )
        segment.users += 1
        return segment


def release(segment: LocalSegment) -> None:
    """Give an attachment back; the last one leaves the segment."""
    with _registry_lock:
        segment.users -= 1
        if segment.users > 0 or _segments.get(segment.prefix) is not segment:
            return
        del _segments[segment.prefix]
    segment.leave()


@atexit.register
def _leave_all() -> None:
    for segment in list(_segments.values()):
        if segment.is_own():
            segment.leave()
    _segments.clear()


def _renew_registry() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_registry)
