# SPDX-License-Identifier: BSD-3-Clause
"""How one layer object calls the core: attaches at first use, and waits for the segment's lock."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable, Iterable
from operator import methodcaller
from typing import TypeVar, TypeVarTuple

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import SegmentDamaged
from hybrid_layer.identity import PerProcess
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.attachments import acquire, release
from hybrid_layer.ipc.diagnostics import busy, contended, lock_holder, shm_room
from hybrid_layer.ipc.objects import Sizes, label
from hybrid_layer.ipc.ownership import refuse
from hybrid_layer.ipc.process import ProcessState
from hybrid_layer.ipc.segment import LocalSegment
from hybrid_layer.ipc.stall_detector import PAUSE, Contended, StallDetector
from hybrid_layer.policy import Policy
from hybrid_layer.timers import sleep

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_SENDS: tuple[object, ...] = (
    *(_core.Segment.push, _core.Segment.push_several),
    *(_core.Segment.group_send, _core.Segment.group_send_several),
)


class SegmentCalls:
    """The base of `hybrid_layer.ipc.transport.LocalTransport`."""

    def __init__(self, policy: Policy, message_memory: int, group_memory: int) -> None:
        self.policy = policy
        self._sizes = Sizes(message_memory, group_memory)
        self._expiry_ns = int(policy.expiry * 1e9)
        self._group_expiry_ns = int(policy.group_expiry * 1e9)
        self._own: PerProcess[ProcessState] = PerProcess()
        self._contended: Contended | None = None
        """The error of the last tries to attach, for callers that wait."""
        self._next_try = 0.0
        self._stuck: Hashable = None
        """The holder that a caller found stalled: later callers do not wait for it."""

    def _current(self) -> ProcessState | None:
        """The state of this process, or None before it has attached."""
        process = self._own.last if self._own.page[0] else None
        if process is not None and process.generation != process.segment.generation:
            process.restore()
        return process

    async def _of_user(self) -> ProcessState:
        """As `joined`, in the segment of the process's present user (setuid), for calls with a lasting effect.

        Calls for single messages notice a change of the user with the next housekeeping.
        """
        process = self._current() or await self._join()
        if process.segment.has_changed_user():
            process.housekeep()
        return process

    def attached(self) -> ProcessState | None:
        """The state of this process; None: it has not attached yet, or is a fork of one that has."""
        return self._current()

    async def joined(self) -> ProcessState:
        """The state of this process. Attaches first, if necessary."""
        return self._current() or await self._join()

    def process(self) -> ProcessState:
        """As `joined`, for callers that cannot await."""
        detector = StallDetector()
        while True:
            try:
                return self._current() or self._start()
            except Contended as met:
                if detector.is_stalled(met.holder):
                    raise busy(met) from None
            time.sleep(PAUSE)

    async def _join(self) -> ProcessState:
        """Attach. Wait while other processes attach or hold the segment's lock, unless one of them is stalled."""
        detector = StallDetector()
        while True:
            # A try blocks the event loop, so only one of several callers tries at a time.
            if self._contended is None or monotonic() >= self._next_try:
                try:
                    return self._start()
                except Contended as met:
                    self._next_try = monotonic() + PAUSE
                    if met.holder == self._stuck:
                        raise busy(met) from None
                    is_stalled = detector.is_stalled(met.holder)
                    if self._contended is None or self._contended.is_queue or not met.is_queue:
                        self._contended = met
            else:
                is_stalled = detector.is_stalled(self._contended.holder)
            if is_stalled:
                self._stuck = self._contended.holder
                raise busy(self._contended)
            await sleep(PAUSE)

    def _start(self) -> ProcessState:
        return self._own.get(self._begin)

    def _begin(self) -> ProcessState:
        prefix, parents = self.policy.prefix, self._own.last
        is_inherited = parents is not None and parents.segment.prefix == prefix
        segment = parents.segment if parents is not None and is_inherited else acquire(prefix, self._sizes)
        if not segment.is_own():
            segment.join()  # by one thread at a time, since `PerProcess.get` holds a lock of the process
        self._stuck = self._contended = None
        own = ProcessState(self.policy, segment)
        if not is_inherited:
            weakref.finalize(self, _close, segment, own.inboxes).atexit = False
        return own

    async def call(self, operation: Callable[[_core.Segment, *Ts], T], *args: *Ts) -> T:
        """Run an operation of the core. Wait for the segment's lock, unless its holder is stalled."""
        process = self._current() or await self._join()
        detector: StallDetector | None = None  # None: the first try
        while True:
            core = process.segment.core
            try:
                return operation(core, *args)
            except (_core.Detached, _core.Retired):
                if detector is not None:
                    raise SegmentDamaged(MAY_BE_LOST) from None
                # The process has left at its exit, and this thread still runs; or it is just moving.
                if process.segment.is_own():
                    process.housekeep()
                else:
                    self._own.clear()
                    process = await self._join()
            except _core.Damaged:
                # The next process that acquires the lock repairs the segment. A send may have arrived in part, so it is
                # not repeated.
                if detector is not None or operation in _SENDS:
                    raise SegmentDamaged(MAY_BE_LOST) from None
            except _core.Busy:
                holder = lock_holder(core)
                if detector is not None and detector.is_stalled(holder):
                    self._stuck = holder
                if holder == self._stuck:
                    raise busy(contended(core, self.policy.prefix)) from None
            except OSError as error:
                refuse(error, label(process.segment.name))
            pause = 0.0 if detector is None else PAUSE
            detector = detector or StallDetector()
            await sleep(pause)

    def _no_room(self, what: str, error: _core.NoMemory) -> str:
        message_memory, group_memory = self._sizes
        if str(error) == "message_memory":
            why = (
                f"unread messages take all of message_memory={message_memory} bytes. Read faster, lower expiry or "
                f"capacity, or raise message_memory."
            )
        elif str(error) == "group_memory":
            why = f"all of group_memory={group_memory} bytes is in use. Raise group_memory, or lower group_expiry."
        else:
            why = (
                f"/dev/shm is full ({shm_room()}), not message_memory={message_memory} or group_memory={group_memory} "
                f"bytes. Make it larger (docker run --shm-size), remove what else fills it, or read faster."
            )
        return f"No room for {what}: {why}"


def _close(segment: LocalSegment, inboxes: Iterable[str]) -> None:
    """Close the inboxes of a layer object that was garbage collected, and perhaps its segment."""
    if segment.is_own():
        for inbox in inboxes:
            segment.defer(methodcaller("close_inbox", inbox))
    release(segment)


MAY_BE_LOST = (
    "The shared segment held inconsistent data and is being repaired; this message may be lost. If this happens "
    "again, something else writes to the segment: remove it from /dev/shm and report it."
)
