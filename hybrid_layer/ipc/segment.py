"""The shared segment as one process has it: found or made, attached once, given back by the last who uses it.

A segment belongs to one user, prefix and layout version. It is a shared-memory object and a directory beside it, both
for their owner only; the directory holds the doorbells and the lock file. Attaching, making, replacing and removing
happen under a record lock on the lock file, so 50 processes may start at once, and what a killed maker left unfinished
is replaced by the next one.

Closing any descriptor of a file drops all record locks that the process has on it. Hence one `LocalSegment` for each
process and prefix, which all layer objects share, and which opens lock file and segment once.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Callable

from hybrid_layer import identity
from hybrid_layer.exceptions import ConfigurationError, HybridLayerError, SegmentBusy, SegmentDamaged, TooManyProcesses
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.diagnostics import (
    holder,
    project_of_this_process,
    shm_room,
    warn_of_another_project,
    warn_of_neighbours,
)
from hybrid_layer.ipc.lockfile import LockFile, is_file, is_same_file
from hybrid_layer.ipc.objects import (
    ROOT,
    create_object,
    directory_of,
    label,
    lock_bearer,
    object_exists,
    open_object,
    remove_object,
)
from hybrid_layer.ipc.station import Station
from hybrid_layer.loops import LoopLocal
from hybrid_layer.statistics import warn


class LocalSegment:
    """This process's attachment to one segment.

    `core` is replaced when the process has to move to another segment, and `moves` counts that: whoever registered
    something in the segment compares it and registers anew.
    """

    def __init__(self, prefix: str, message_memory: int, group_memory: int) -> None:
        self.prefix = prefix
        self.message_memory = message_memory
        self.group_memory = group_memory
        self.name = segment_name(prefix, os.geteuid())
        self.directory = directory_of(self.name)
        self.users = 0
        self.moves = 0
        self._has_left = False
        self._lock = threading.Lock()
        self._identity = identity.current()
        self._lock_file = LockFile(self.directory)
        self._fd = -1
        """Bears our record locks: the object's descriptor, or in the portable build the lock file's."""
        self._inode = (0, 0)
        self.wakers: dict[int, Callable[[], None]] = {}
        """Loop number -> wake that loop of this process; see `wake_loops`."""
        self.stations = self._new_stations()
        try:
            with self._lock_file.held():
                self.core = self._attach()
        except HybridLayerError:
            self._lock_file.close()
            raise

    def is_own(self) -> bool:
        """Whether this process, not a parent of it, has attached, and has not left."""
        return self._identity is identity.current() and not self._has_left

    def join(self) -> None:
        """Take a slot in a forked child, which has inherited everything but that. Called when an operation says so."""
        if self._identity is identity.current():
            identity.renew()  # forked by code that runs no hooks
        for station in self.stations.all():
            station.close()  # of the parent's loops, which do not run here: before we count as attached
        self._identity = identity.current()
        self._lock = threading.Lock()  # the inherited one may be held by a thread that does not exist here
        self.wakers = {}
        self.stations = self._new_stations()
        with self._lock_file.held():
            # The parent's descriptors carry no lock of ours and stay open: closing one would drop those that we take
            # now. Code that makes daemons may have closed them, and opened other files under their numbers.
            if self._has_descriptor():
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
            "The shared segment of prefix %r was lost (%s): %s",
            self.prefix,
            reason,
            _WHY_LOST.get(reason, "some code closed descriptors that are not its own. Attaching anew."),
        )
        try:
            self._recover(core, reason)
        except HybridLayerError as error:
            warn(("move", self.name), "Cannot move to a new segment: %s", error)
        return True

    def warn_of_unread(self) -> None:
        """Warn if messages expired on a normal channel where nobody has ever looked for them."""
        channel = self.core.take_unread()
        if channel is not None:
            warn(
                ("unread", channel),
                "Messages on %s expired: no process of this user on this machine reads it. If its worker runs "
                'elsewhere, set hosts and routes={"%s": "remote"}.',
                channel,
                channel,
            )

    def _recover(self, lost: _core.Segment, reason: str) -> None:
        with self._lock:
            if self.core is not lost or self._has_left:
                return  # another loop was here first, or the interpreter is ending
            old_fd = self._fd if self._has_inode() else -1
            if reason in ("unlinked", "retired"):
                lost.retire()  # who shares it sees that, and moves too
            if old_fd >= 0 and (_core.PORTABLE or not lost.retired):
                # The file may be the same, so it has to be closed before its locks are taken: with it they would go.
                os.close(old_fd)
                old_fd = -1
            with self._lock_file.held():
                self.core = self._attach()
            if old_fd >= 0:
                os.close(old_fd)
            self.moves += 1

    def _has_descriptor(self) -> bool:
        return self._has_inode() and os.fstat(self._fd).st_nlink > 0

    def _has_inode(self) -> bool:
        return is_file(self._fd, self._inode)

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
        with self._lock, contextlib.suppress(SegmentBusy, OSError), self._lock_file.held():
            if self._has_left or not self.core.attached:
                return
            self._has_left = True
            for station in self.stations.all():
                station.remove_doorbell()  # of a loop that was closed without notice, or never
            needed = True
            with contextlib.suppress(_core.Busy, _core.Damaged, _core.Retired):
                needed = self.core.is_needed()
            with contextlib.suppress(_core.Busy, _core.Damaged, _core.Retired):
                self.core.leave()
            is_current = self._has_inode() and is_same_file(self._fd, lock_bearer(self.name))
            if not needed and is_current and self.core.is_deserted():
                remove_object(self.name)
            if not object_exists(self.name):  # also when somebody else has removed it: held() has made a directory
                self._lock_file.remove_directory()
        self._lock_file.close()
        if not _core.PORTABLE and self._has_inode():
            os.close(self._fd)
        self._fd = -1

    def remove_stale_doorbells(self) -> None:
        """Remove the doorbells that processes left behind when they were killed."""
        with contextlib.suppress(FileNotFoundError):
            # Listed first: a process that makes its doorbell now has been published before, and is seen below.
            paths = [path for path in self.directory.iterdir() if path.name[:1].isdigit()]
            alive = {f"{slot}.{generation}" for slot, generation, _, is_alive in self.core.processes() if is_alive}
            for path in paths:
                if path.name.rpartition(".")[0] not in alive:
                    path.unlink(missing_ok=True)

    # Attaching

    def _attach(self) -> _core.Segment:
        """The segment, found or made, with a slot of ours. Called with the lock file's lock."""
        for _ in range(3):  # found, replaced, made
            fd, is_new = self._open_or_create()
            try:
                core = _core.Segment(fd, self._locks_on(fd), str(self.directory))
                if core.retired:
                    self._replace(fd, None)  # its processes have moved, or are about to
                    continue
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
            try:
                self._join(core)
            except HybridLayerError:
                os.close(fd)
                raise
            self._fd = self._locks_on(fd)
            if fd != self._fd:
                os.close(fd)  # mapped, and not needed any more
            status = os.fstat(self._fd)
            self._inode = (status.st_dev, status.st_ino)
            if not is_new:
                warn_of_another_project(self.name, self.prefix, core.project)
            warn_of_neighbours(self.name, self.prefix, _digest(self.prefix))
            return core
        raise SegmentDamaged(f"{label(self.name)} cannot be made; something else writes to it.")

    def _locks_on(self, fd: int) -> int:
        return self._lock_file.fd if _core.PORTABLE else fd

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
            raise SegmentDamaged(
                f"The segment {self.name} cannot be repaired; remove {lock_bearer(self.name)}."
            ) from None

    def _open_or_create(self) -> tuple[int, bool]:
        fd = open_object(self.name)
        return (self._create(), True) if fd is None else (fd, False)

    def _create(self) -> int:
        if _core.PORTABLE:
            # Who still uses an object whose name is gone holds his locks on the old lock file, sees that go, and moves.
            self._lock_file.replace()
        fd = create_object(self.name)
        seed = (secrets.randbits(64), secrets.randbits(64))
        try:
            _core.format(
                fd,
                self._locks_on(fd),
                self.message_memory,
                self.group_memory,
                self.prefix,
                project_of_this_process(),
                identity.random_id(),
                seed,
            )
        except _core.NoMemory:
            os.close(fd)
            remove_object(self.name)
            raise ConfigurationError(
                f"There is no room in {ROOT} for a segment; it is {shm_room()}. Make it larger (docker run "
                f"--shm-size), or the segment smaller with message_memory and group_memory."
            ) from None
        return fd

    def _replace(self, fd: int, warning: str | None) -> None:
        if warning is not None:
            warn(("replaced", self.name), "Replacing %s at %s.", warning, label(self.name))
        remove_object(self.name)
        os.close(fd)

    def _has_other_sizes(self, core: _core.Segment) -> bool:
        return (core.message_bytes, core.group_bytes) != (self.message_memory, self.group_memory)

    def _other_sizes(self, core: _core.Segment) -> str:
        pids = ", ".join(str(pid) for _, _, pid, is_alive in core.processes() if is_alive)
        return (
            f"The segment of prefix {self.prefix!r} has message_memory={core.message_bytes} and "
            f"group_memory={core.group_bytes}, and processes that use it (pid {pids}); this process is configured "
            f"with message_memory={self.message_memory} and group_memory={self.group_memory}. Use the same sizes, stop "
            f"those processes first, or use another prefix."
        )


def _digest(prefix: str) -> str:
    return hashlib.sha256(prefix.encode()).hexdigest()[:16]


def segment_name(prefix: str, uid: int) -> str:
    """The segment's name. The prefix may hold characters that a file name cannot, hence its digest."""
    return f"hybrid_layer.{uid}.{_digest(prefix)}.{_core.LAYOUT_VERSION}"


_WHY_LOST = dict.fromkeys(
    ("unlinked", "retired"),
    "something removed it, such as systemd's RemoveIPC or a cleaned /dev/shm. Moving to a new one; unread messages are "
    "gone.",
)

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
                f"{segment.message_memory} and {message_memory}, group_memory={segment.group_memory} and "
                f"{group_memory}."
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
        # Under the lock: closing descriptors here would drop the record locks that the next attachment takes meanwhile.
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
