# SPDX-License-Identifier: BSD-3-Clause
"""The local transport: normal channels, process-specific channels and groups through the shared segment."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Coroutine, Hashable, Iterable
from operator import methodcaller
from typing import Any, TypeVar, TypeVarTuple

from channels.exceptions import ChannelFull

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import GroupMemoryFull, SegmentDamaged
from hybrid_layer.identity import PerProcess
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.attachments import acquire, release
from hybrid_layer.ipc.diagnostics import busy, contended, lock_holder, shm_room
from hybrid_layer.ipc.objects import Sizes, label
from hybrid_layer.ipc.ownership import refuse
from hybrid_layer.ipc.process import InboxSource, ProcessState
from hybrid_layer.ipc.segment import LocalSegment
from hybrid_layer.ipc.stall_detector import PAUSE, Contended, StallDetector
from hybrid_layer.names import local, machine_of, non_local
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import KEYS, warn, warn_of_full_members
from hybrid_layer.timers import sleep

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


_SENDS: tuple[object, ...] = (_core.Segment.push, _core.Segment.group_send)
_MEMORY = KEYS.index("memory")


class LocalTransport:
    """Implements `hybrid_layer.transport.Transport` for one layer object. It attaches to the segment at first use."""

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

    # Channels

    async def open_inbox(self, inbox: str) -> None:
        """Let this process receive on the channels of `inbox`. Raises `ChannelFull` if there is no room for it."""
        process = await self._of_user()
        if inbox not in process.inboxes:
            try:
                await self.call(_core.Segment.open_inbox, inbox)
            except _core.NoMemory as error:
                raise ChannelFull(self._no_room(f"the inbox {inbox}", error)) from None
            process = self.process()
            process.inboxes[inbox] = InboxSource(process, inbox)

    async def send(self, channel: str, payload: bytes, expiry: float | None = None) -> None:
        """Store `payload` for one reader. Raises `ChannelFull` or `SegmentBusy`: then nothing was stored.

        Raises `SegmentDamaged` if the payload may be lost.
        """
        process = self._current() or await self._join()
        if monotonic() >= process.next_housekeeping:
            process.housekeep()
        queue, name = (non_local(channel), local(channel)) if "!" in channel else (channel, "")
        capacity = self.policy.capacity_for(channel)
        expiry_ns = self._expiry_ns if expiry is None else int(expiry * 1e9)
        try:
            try:
                loops = process.segment.core.push(queue, name, payload, capacity, expiry_ns)
            except (_core.Busy, _core.Detached, _core.Retired):  # nothing was stored, so this cannot deliver twice
                loops = await self.call(_core.Segment.push, queue, name, payload, capacity, expiry_ns)
        except _core.Full:
            what = f"The inbox {queue} of {channel}" if queue != channel else f"Channel {channel}"
            raise ChannelFull(
                f"{what} is at its capacity of {capacity} unread messages. Read faster, or raise capacity or "
                f"channel_capacity."
            ) from None
        except _core.NoMemory as error:
            process.segment.core.count(_MEMORY, 1)
            raise ChannelFull(self._no_room(f"a message to {channel}", error)) from None
        except _core.Damaged:
            raise SegmentDamaged(_MAY_BE_LOST) from None
        except OSError as error:
            refuse(error, label(process.segment.name))
        if loops:
            process.segment.wake_loops(loops)

    def receive(self, channel: str) -> Coroutine[Any, Any, bytes]:
        """Wait for the next payload of `channel`. A cancellation at any point loses nothing."""
        process = self._current()
        if process is None:
            return self._receive_first(channel)
        if "!" not in channel:
            return process.segment.wait_sets.get().receive(channel)
        source = process.inboxes.get(non_local(channel))
        if source is None:
            return self._receive_first(channel)
        # Not a coroutine function, which would add a coroutine for each message.
        return process.inbox.receive(channel, source, asyncio.get_running_loop())

    async def _receive_first(self, channel: str) -> bytes:
        if self._current() is None:
            await self._join()
        if "!" in channel:
            await self.open_inbox(non_local(channel))
        return await self.receive(channel)

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member of `group` for `group_expiry` seconds from now. Raises `GroupMemoryFull`."""
        await self._add(group, channel, _core.Segment.group_add, lambda epoch: epoch)

    async def group_join(self, group: str, channel: str, shard: int) -> tuple[bool, bool]:
        """As `group_add`. Return whether it is a new member, and whether the group's record is valid until it ends."""
        join = _core.Segment.group_join
        is_new, is_recorded, _ = await self._add(group, channel, join, lambda joined: joined[2], shard)
        return is_new, is_recorded

    async def _add(
        self, group: str, channel: str, operation: Callable[..., T], epoch_of: Callable[[T], int], *args: int
    ) -> T:
        process = self._current() or await self._join()
        if process.segment.has_changed_user():
            process.housekeep()
        inbox = non_local(channel)
        try:
            added = await self.call(operation, group, inbox, local(channel), self._group_expiry_ns, *args)
        except _core.NoMemory as error:
            raise GroupMemoryFull(self._no_room(f"{channel} in group {group}", error)) from None
        if inbox in process.inboxes or "!" not in channel:
            process.remember(group, channel, monotonic() + self.policy.group_expiry, epoch_of(added))
        return added

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""
        process = self._current() or await self._join()
        process.memberships.pop((group, channel), None)
        await self.call(_core.Segment.group_discard, group, non_local(channel), local(channel))

    async def group_send(self, group: str, payload: bytes) -> None:
        """Send `payload` to every member. A member at capacity misses it, which is counted."""
        await self.group_send_here(group, payload)

    async def group_send_here(self, group: str, payload: bytes) -> str:
        """As `group_send`. Return the id of the machine whose members these were."""
        process = self._current() or await self._join()
        if monotonic() >= process.next_housekeeping:
            process.housekeep()
        policy = self.policy
        capacities = {} if policy.uniform else await self.capacities_in(group)
        try:
            loops, dropped, machine = await self.call(
                _core.Segment.group_send, group, payload, policy.capacity, capacities, self._expiry_ns
            )
        except _core.NoMemory as error:
            core = process.segment.core
            core.count(_MEMORY, 1)
            warn(("memory", group), f"A message to group {group} was dropped: {self._no_room('it', error)}")
            return core.machine
        if dropped:
            warn_of_full_members(group, dropped)
        if loops:
            process.segment.wake_loops(loops)
        return machine

    async def capacities_in(self, group: str) -> dict[str, int]:
        """The capacities of the group's members that differ from the common one."""
        policy = self.policy
        found = {}
        for target in await self.call(_core.Segment.group_targets, group):
            capacity = policy.capacity_for(target)
            if capacity != policy.capacity:
                found[target] = capacity
        return found

    # The rest

    async def flush(self) -> None:
        """Delete every message and group of the segment."""
        process = self._current() or await self._join()
        process.follow(process.segment.core.epoch)  # a repaired one, perhaps: then the next would not look like a flush
        await self.call(_core.Segment.flush)
        process.follow(process.segment.core.epoch)
        process.inbox.clear()

    async def close(self) -> None:
        """Close the running loop's doorbell, unless a coroutine waits there."""
        process = self._own.peek()
        if process is not None:
            wait_sets = process.segment.wait_sets
            wait_set = wait_sets.peek(asyncio.get_running_loop())
            if wait_set is not None and not wait_set.is_in_use():
                wait_sets.drop(wait_set.loop)

    async def statistics(self) -> dict[str, int]:
        """The counters of all processes of the machine, since the segment was made."""
        return (await self.joined()).counters.as_dict()

    def count(self, key: str) -> None:
        """Add one to the counter `key`."""
        self.process().counters.count(key)

    def owns(self, channel: str) -> bool:
        """Whether `channel`, which is named after a machine, is in this segment: named after it, or of this process."""
        process = self._current() or self.process()
        return machine_of(channel) == process.segment.core.machine or non_local(channel) in process.inboxes

    # Steps

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
                    raise SegmentDamaged(_MAY_BE_LOST) from None
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
                    raise SegmentDamaged(_MAY_BE_LOST) from None
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


_MAY_BE_LOST = (
    "The shared segment held inconsistent data and is being repaired; this message may be lost. If this happens "
    "again, something else writes to the segment: remove it from /dev/shm and report it."
)
