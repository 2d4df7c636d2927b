# SPDX-License-Identifier: BSD-3-Clause
"""One process's attachment to the shared segment: found or made, moved when the segment is lost, closed at the end.

A segment belongs to one user, prefix and layout version. It is a shared-memory object and a directory beside it, which
only their owner may open. The directory holds the doorbells and the lock file. A process holds a record lock on the
lock file while it makes, attaches, replaces or removes a segment. So 50 processes may start at once, and what a killed
process left unfinished is replaced by the next one.

Closing any descriptor of a file drops all record locks that the process holds on it. Hence there is one `LocalSegment`
per process and prefix (`attachments.py`), which opens lock file and segment once.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator

from hybrid_layer import identity
from hybrid_layer.exceptions import ConfigurationError, HybridLayerError, SegmentDamaged, TooManyProcesses
from hybrid_layer.ipc import _core, diagnostics, objects
from hybrid_layer.ipc.creation import Estate, create_segment, estate_of, remove_segment
from hybrid_layer.ipc.damage import Damage
from hybrid_layer.ipc.lockfile import LockFile
from hybrid_layer.ipc.ownership import refusals
from hybrid_layer.ipc.stall_detector import LOCK_REFUSED, Contended
from hybrid_layer.ipc.wait_set import WaitSet
from hybrid_layer.loops import LoopLocal
from hybrid_layer.statistics import warn


class LocalSegment:
    """Implements `attachment.Attachment`.

    `core` is replaced when the process moves to another segment. Objects that registered something in the segment
    compare `core` or `generation`, and register again.
    """

    def __init__(self, prefix: str, sizes: objects.Sizes) -> None:
        self.prefix = prefix
        self.sizes = sizes
        self._belong_to(os.geteuid())
        self.users = 0
        self.generation = 0
        """The generation of this process's registrations. A move, or a repair with losses, begins the next one."""
        self._damage = Damage(prefix)
        self._is_closed = False
        self._reaped = 0
        # Reentrant: the garbage collector may release the last layer object while this thread holds it.
        self._lock = threading.RLock()
        self._is_moving = self._closes_afterwards = False
        self._epoch = 0
        """That of the segment as of the last housekeeping, for when it can no longer be read."""
        self._identity = identity.this_process()
        self._file = objects.Descriptor()
        """That with our record locks: the object's, or in the portable build the lock file's."""
        self._kept: list[objects.Descriptor] = []
        self.wakers: dict[int, Callable[[], None]] = {}
        """By number of an event loop of this process: a function that wakes the loop."""
        self._deferred: deque[tuple[_core.Segment, Callable[[_core.Segment], int | None]]] = deque()
        self.wait_sets = self._new_wait_sets()
        self._heir: identity.Identity | None = None
        """The forked child that has detached from what belongs to its parent."""
        try:
            with self._lock_held():
                self.core = self._attach()
        except BaseException:
            self._lock_file.close()
            raise

    def _belong_to(self, user: int) -> None:
        self._user = user
        self.name = objects.segment_name(self.prefix, user)
        self.directory = objects.directory_of(self.name)
        self._lock_file = LockFile(self.directory)
        self.machine = identity.random_id()
        """The machine's id, which is stored in the segment. A new segment that this process makes takes it over. To the
        servers, the segment of each user is a machine."""

    def lock_bearer(self) -> objects.Descriptor:
        """The open file with this process's record locks: the segment, or the lock file in the portable build."""
        return self._file

    def keep(self, file: objects.Descriptor) -> None:
        """Close an older descriptor of the segment together with ours: alone, that would drop our record locks."""
        self._kept.append(file)

    def is_own(self) -> bool:
        """Whether this process is attached: this one, not a parent of it."""
        return self._identity.is_current() and not self._is_closed

    def join(self) -> None:
        """Take a slot in a forked child, which has inherited everything but the slot.

        Raises what `attachments.acquire` raises, and may then be called again.
        """
        here = identity.this_process()
        if self._heir is not here:
            self._detach()
            self._heir = here
        if self.has_changed_user():
            self._close_files()
            self._belong_to(os.geteuid())
        with self._lock_held():
            # The parent's descriptors stay open, since closing one would drop the locks that we take now. Code that
            # makes daemons may have closed them, and opened other files under their numbers.
            if self._file.is_ours() and os.fstat(self._file.fd).st_nlink > 0:
                self._join(self.core)
            else:
                self.core = self._attach(self._estate_of_parent())
        self._identity = here
        self._has_moved()

    def _estate_of_parent(self) -> Estate:
        """What a child takes along from a segment that was removed, or whose descriptor was closed."""
        if not self._file.is_ours() or _core.PORTABLE:
            return Estate(self.machine)
        self._damage.retire(self.core, "unlinked")  # the parent may still read
        return estate_of(self.core, self.machine)

    def _detach(self) -> None:
        for wait_set in self.wait_sets.all():
            wait_set.close()  # the parent's loops do not run here; before we count as attached
        self._lock = threading.RLock()  # a thread that does not exist here may hold the inherited one
        self._is_moving = self._closes_afterwards = False
        self.wakers = {}
        self._deferred.clear()
        self.wait_sets = self._new_wait_sets()

    def recover_if_lost(self) -> bool:
        """Move to a new segment if this one can no longer be used. True: it moved, or tried to."""
        core = self.core
        reason = None
        if self.is_own():
            reason = "user" if self.has_changed_user() else self._damage.why_lost(core)
        if reason is None:
            self._epoch = core.epoch
            if self._damage.has_cost(core):
                self.generation += 1
        if reason is None or reason == "fork":
            return False
        try:
            self._recover(core, reason)
        except Contended:
            return True  # other processes move or leave; the next housekeeping tries again
        except HybridLayerError as error:
            warn(("move", self.name), f"Cannot move to a new segment: {error}")
        return True

    def _recover(self, lost: _core.Segment, reason: str) -> None:
        with self._lock:
            if self.core is not lost or self._is_closed:
                return  # another loop has moved, or the interpreter is ending
            self._is_moving = True
            try:
                self._follow_user(lost) if reason == "user" else self._move(lost, reason)
            finally:
                self._is_moving = False
                if self._closes_afterwards:
                    self.close()

    def _move(self, lost: _core.Segment, reason: str) -> None:
        old = self._file
        is_retired = self._damage.retire(lost, reason)
        estate = estate_of(lost, self.machine) if is_retired and reason != "truncated" else Estate(self.machine)
        if _core.PORTABLE or not is_retired:
            # The new file may be the same one. Closing it after its locks are acquired would drop them.
            old.close()
        with self._lock_held():
            core = self._attach(estate)
        # Messages taken in from the old one do not count as flushed.
        core.continue_epoch(lost.epoch if reason != "truncated" else self._epoch)
        self.core = core
        old.close()
        self._has_moved()

    def has_changed_user(self) -> bool:
        """Whether the process has another user than the segment (setuid)."""
        return os.geteuid() != self._user

    def _follow_user(self, lost: _core.Segment) -> None:
        user, machine, lock_file, old = self._user, self.machine, self._lock_file, self._file
        self._belong_to(os.geteuid())
        try:
            with self._lock_held():
                core = self._attach()
        except BaseException:
            self._lock_file.close()
            self._belong_to(user)
            self.machine, self._lock_file = machine, lock_file
            raise
        core.continue_epoch(lost.epoch)
        self.core = core
        with contextlib.suppress(*LOCK_REFUSED):
            lost.leave()
        old.close()
        lock_file.close()
        self._has_moved()

    def _has_moved(self) -> None:
        self._damage.attached(self.core)
        self.generation += 1

    def wake_loops(self, loops: int) -> None:
        """Wake event loops of this process. Bit n of `loops` stands for the loop with number n."""
        while loops:
            number = loops.bit_length() - 1
            loops ^= 1 << number
            waker = self.wakers.get(number)
            if waker is not None:
                waker()

    def defer(self, operation: Callable[[_core.Segment], int | None]) -> None:
        """Run `operation` now, or once the segment's lock can be acquired. It may return loops to wake, as bits."""
        self._deferred.append((self.core, operation))
        self.run_deferred()

    def run_deferred(self) -> None:
        """Run deferred operations."""
        for _ in range(len(self._deferred)):
            try:
                core, operation = self._deferred.popleft()
            except IndexError:
                return  # another thread runs them
            try:
                self.wake_loops((operation(core) or 0) if core is self.core else 0)
            except (_core.Busy, _core.Damaged, OSError):
                self._deferred.append((core, operation))
                return
            except (_core.Detached, _core.Retired, _core.Stale):
                continue  # its segment or slot is gone, and the operation with it

    def _new_wait_sets(self) -> LoopLocal[WaitSet]:
        return LoopLocal(lambda loop: WaitSet(self, loop), WaitSet.close)

    def close(self) -> None:
        """Give the slot back. Remove the segment if no process uses it, and it holds nothing that is still needed."""
        with self._lock:
            self._closes_afterwards = self._is_moving
            if self._is_moving or self._is_closed or not self.core.attached or self.core.lost() == "truncated":
                return
            self._is_closed = True
            for wait_set in self.wait_sets.all():
                wait_set.remove_doorbell()  # its loop was closed without notice, or not at all
            # The lock file, and its errors, matter only for removing a segment.
            with contextlib.suppress(HybridLayerError, OSError), self._lock_file.held(while_progressing=True):
                self._leave_segment()
            with contextlib.suppress(*LOCK_REFUSED):
                self.core.leave()  # if `_leave_segment` has not done so
        self._close_files()

    def _close_files(self) -> None:
        self._lock_file.close()
        self._file.close()
        while self._kept:
            self._kept.pop().close()

    def _leave_segment(self) -> None:
        needed = True
        with contextlib.suppress(*LOCK_REFUSED):
            needed = self.core.is_needed()
        with contextlib.suppress(*LOCK_REFUSED):
            self.core.leave()
        if not needed and self._file.is_at(objects.lock_bearer(self.name)) and self.core.is_deserted():
            objects.remove_object(self.name)
        if not objects.object_exists(self.name):  # also if another process has removed it: held() has made a directory
            self._lock_file.remove_directory()

    def tidy_up(self) -> None:
        """Remove doorbells of killed processes. Warn of messages that expired on a channel that no process has read."""
        if (channel := self.core.take_unread()) is not None:
            diagnostics.warn_of_unread(channel)
        reaped = self.core.counters()[-1]
        if reaped != self._reaped:
            self._reaped = reaped
            try:
                objects.remove_stale_doorbells(self.directory, self.core)
            except OSError as error:
                self._reaped = -1  # so that it is tried again
                warn(("tidy", self.name), f"Cannot remove doorbells of dead processes: {error}")

    # Attaching

    @contextlib.contextmanager
    def _lock_held(self) -> Iterator[None]:
        """Hold the lock file's lock, and turn errors of the system into ours."""
        with refusals(objects.label(self.name)), self._lock_file.held():
            yield

    def _attach(self, estate: Estate | None = None) -> _core.Segment:
        """Find or make the segment, and take a slot. Called with the lock file's lock held.

        `estate` is what the process has of the segment that it comes from.
        """
        for _ in range(3):  # found, replaced, made
            fd = objects.open_object(self.name)
            is_new = fd is None
            if fd is None:
                fd = create_segment(self.name, self._lock_file, self.prefix, self.sizes, self.machine, estate)
            try:
                file = objects.Descriptor(self._locks_on(fd))
                found = self._joined(fd, is_new, estate)
            except BaseException:
                os.close(fd)
                if is_new:
                    remove_segment(self.name, self._lock_file)
                raise
            if not isinstance(found, _core.Segment):
                # What is bequeathed there is newer, unless it is the segment that this process comes from.
                if found is not None and (estate is None or found.bequeathed is not None):
                    estate = found
                objects.remove_object(self.name)
                os.close(fd)
                continue
            core = found
            self._file = file
            if fd != file.fd:
                os.close(fd)  # it is mapped, so the descriptor is not needed
            self.machine = core.machine
            if not is_new:
                diagnostics.warn_of_another_project(self.name, self.prefix, core.project)
            diagnostics.warn_of_neighbours(self.name, self.prefix, objects.digest(self.prefix))
            return core
        raise SegmentDamaged(f"{objects.label(self.name)} cannot be made; something else writes to it.")

    def _joined(self, fd: int, is_new: bool, estate: Estate | None) -> _core.Segment | Estate | None:
        """The segment behind `fd`, with a slot in it. If it has to be replaced, what its successor takes over."""
        try:
            core = _core.Segment(fd, self._locks_on(fd), str(self.directory))
        except _core.Damaged as reason:
            # We hold the lock, so no process is making it now: its maker was killed, or it is no segment.
            where = objects.label(self.name)
            warn(("replaced", self.name), f"Replacing a segment that cannot be used ({reason}) at {where}.")
            return None
        if core.retired:  # its processes have moved, or are about to
            return self._estate_from(core, fd, estate)
        if not is_new and (core.message_bytes, core.group_bytes) != self.sizes:
            if not core.is_deserted():
                raise ConfigurationError(diagnostics.other_sizes(core, self.prefix, self.sizes))
            self._warn_of_loss(core)
            return None
        try:
            self._join(core)
        except SegmentDamaged as error:
            warn(("replaced", self.name), f"Replacing a segment: {error}")
            core.retire()
            return self._estate_from(core, fd, estate)
        return core

    def _estate_from(self, core: _core.Segment, fd: int, estate: Estate | None) -> Estate:
        """What the segment behind `fd` leaves, unless it is the one that this process comes from with `estate`."""
        is_the_same = objects.inode_of(os.fstat(fd)) == self._file.inode
        return estate if estate is not None and is_the_same else estate_of(core, core.machine)

    def _warn_of_loss(self, core: _core.Segment) -> None:
        with contextlib.suppress(HybridLayerError, Contended, *LOCK_REFUSED):
            self._join(core)
            if core.is_needed():
                diagnostics.warn_of_loss(core, self.name, self.prefix, self.sizes)
            core.leave()

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
            raise diagnostics.contended(core, self.prefix) from None
        except _core.Damaged:
            raise SegmentDamaged(
                f"The segment {self.name} cannot be repaired; remove {objects.lock_bearer(self.name)}."
            ) from None
