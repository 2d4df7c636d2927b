"""The machine-local transport: normal channels, process-specific channels and groups through the shared segment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from channels.exceptions import ChannelFull

from hybrid_layer import identity
from hybrid_layer.exceptions import GroupMemoryFull, HybridLayerError, SegmentBusy, SegmentDamaged
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.diagnostics import holder, shm_room
from hybrid_layer.ipc.process import ProcessState
from hybrid_layer.ipc.segment import LocalSegment, acquire, release
from hybrid_layer.names import local, non_local
from hybrid_layer.statistics import KEYS, warn, warn_of_full_members
from hybrid_layer.transport import Settings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_TRIES = 40
"""Waits of 50 ms for the segment's lock, all without any progress, before its holder is held to be stopped."""
_SENDS: tuple[object, ...] = (_core.Segment.push, _core.Segment.group_send)
_RECEIVED = KEYS.index("received")
_MEMORY = KEYS.index("memory")


class LocalTransport:
    """One layer object's use of the process's segment, which it attaches at first use."""

    def __init__(self, settings: Settings, message_memory: int, group_memory: int) -> None:
        self._settings = settings
        self._sizes = (message_memory, group_memory)
        self._expiry_ns = int(settings.policy.expiry * 1e9)
        self._group_expiry_ns = int(settings.policy.group_expiry * 1e9)
        self._own: ProcessState | None = None

    # Channels

    async def open_inbox(self, part: str) -> None:
        """Make `part` receivable by this process."""
        if part not in self._process().parts:
            await self._call(_core.Segment.open_inbox, part)
            self._process().receive_on(part)

    async def send(self, channel: str, payload: bytes) -> None:
        """Store `payload` for one reader. Raises `ChannelFull` or `SegmentBusy`; then nothing was stored."""
        process = self._process()
        if time.monotonic() >= process.next_look:
            process.look()
        part, name = (non_local(channel), local(channel)) if "!" in channel else (channel, "")
        capacity = self._settings.policy.capacity_for(channel)
        try:
            try:
                loops = process.segment.core.push(part, name, payload, capacity, self._expiry_ns)
            except (_core.Busy, _core.Detached, _core.Retired):  # nothing was stored, so this is no repetition
                loops = await self._call(_core.Segment.push, part, name, payload, capacity, self._expiry_ns)
        except _core.Full:
            raise ChannelFull(self._channel_full(channel, part, capacity)) from None
        except _core.NoMemory:
            process.segment.core.count(_MEMORY, 1)
            raise ChannelFull(self._memory_full(channel)) from None
        except _core.Damaged:
            raise SegmentDamaged(_MAY_BE_LOST) from None
        if loops:
            process.segment.wake_loops(loops)

    async def receive(self, channel: str) -> bytes:
        """Wait for the next payload. A cancellation at any point loses nothing."""
        process = self._process()
        if "!" not in channel:
            return await process.segment.stations.get().receive(channel)
        part = non_local(channel)
        if part not in process.parts:
            await self.open_inbox(part)
        payload = await process.inbox.receive(channel, process.parts[part])
        process.segment.core.count(_RECEIVED, 1)
        return payload

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member for `group_expiry` seconds from now. Raises `GroupMemoryFull`."""
        process = self._process()
        part = non_local(channel)
        try:
            await self._call(
                _core.Segment.group_add, group, part, local(channel) if "!" in channel else "", self._group_expiry_ns
            )
        except _core.NoMemory:
            raise GroupMemoryFull(
                f"No room for {channel} in group {group}: group_memory={self._sizes[1]} bytes (or message_memory="
                f"{self._sizes[0]}) is used up, or /dev/shm is ({shm_room()}). Raise it."
            ) from None
        if part in process.parts or "!" not in channel:
            process.memberships[group, channel] = time.monotonic() + self._settings.policy.group_expiry

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""
        process = self._process()
        process.memberships.pop((group, channel), None)
        await self._call(
            _core.Segment.group_discard, group, non_local(channel), local(channel) if "!" in channel else ""
        )

    async def group_send(self, group: str, payload: bytes) -> None:
        """Give `payload` to every member; who is at capacity misses it, which is counted."""
        process = self._process()
        if time.monotonic() >= process.next_look:
            process.look()
        policy = self._settings.policy
        capacities: dict[str, int] = {}
        if not policy.uniform:
            for target in await self._call(_core.Segment.group_targets, group):
                capacity = policy.capacity_for(target)
                if capacity != policy.capacity:
                    capacities[target] = capacity
        try:
            loops, dropped = await self._call(
                _core.Segment.group_send, group, payload, policy.capacity, capacities, self._expiry_ns
            )
        except _core.NoMemory:
            process.segment.core.count(_MEMORY, 1)
            warn(("memory", group), "A message to group %s was dropped: %s", group, self._memory_full("the group"))
            return
        if dropped:
            warn_of_full_members(group, dropped)
        if loops:
            process.segment.wake_loops(loops)

    # The rest

    async def flush(self) -> None:
        """Forget every message and group of the segment."""
        process = self._process()
        process.memberships.clear()
        await self._call(_core.Segment.flush)
        process.inbox.clear()

    async def close(self) -> None:
        """Give back the running loop's doorbell, unless somebody waits there."""
        if self._own is not None and self._own.identity is identity.current():
            stations = self._own.segment.stations
            station = stations.peek(asyncio.get_running_loop())
            if station is not None and not station.is_in_use():
                stations.drop(station.loop)

    async def statistics(self) -> dict[str, int]:
        """The machine's counters, of all processes, since the segment was made."""
        return self._process().counters.as_dict()

    def count(self, key: str) -> None:
        """Add one to a counter."""
        self._process().counters.count(key)

    # The machine, as the remote half sees it

    async def machine_id(self) -> str:
        """The random id that all processes of this machine read in the segment."""
        return self._process().segment.core.machine

    async def deliver(self, channel: str, payload: bytes) -> None:
        """Put a group's message, which came over the remote, into a normal channel's queue; a full one drops it."""
        try:
            await self.send(channel, payload)
        except ChannelFull as error:  # counted where it was found
            warn(("full", channel), "A group's message to %s was dropped: %s", channel, error)

    def has_remote_members(self) -> bool:
        """Whether a normal channel of this machine has joined a group on the remote."""
        return self._process().segment.core.machine_members

    async def mark_remote_members(self) -> None:
        """Tell all processes of this machine that one has."""
        self._process().segment.core.mark_members()

    def meet_remote_flush(self, incarnation: int, flushes: int) -> None:
        """Forget this machine's messages, once, if the servers were flushed since it last met them. From any thread."""
        try:
            process = self._process()
        except HybridLayerError as error:  # the servers' side goes on without this machine's
            warn(("meet flush", self._settings.prefix), "A flush of the servers is not done here: %s", error)
            return
        if process.segment.core.meet_remote_flush(incarnation, flushes):
            for _ in range(_TRIES):
                with contextlib.suppress(_core.Busy, _core.Damaged, _core.Retired, _core.Detached):
                    process.segment.core.flush()
                    break
            process.inbox.clear()

    # Steps

    def _process(self) -> ProcessState:
        process = self._own
        if process is None or process.identity is not identity.current():
            return self._start()
        if process.moves != process.segment.moves:
            process.restore()
        return process

    def _start(self) -> ProcessState:
        with _starting:
            process = self._own
            if process is not None and process.identity is identity.current():
                return process
            if process is None:
                segment = acquire(self._settings.prefix, *self._sizes)
            else:
                segment = process.segment
            if not segment.is_own():
                segment.join()
            first = process is None
            self._own = process = ProcessState(self._settings, segment)
            if first:
                weakref.finalize(self, _let_go, segment, process.parts).atexit = False
            return process

    async def _call(self, operation: Callable[[_core.Segment, *Ts], T], *args: *Ts) -> T:
        """One operation of the core, with patience for a lock that another process holds."""
        process = self._process()
        try:
            return operation(process.segment.core, *args)
        except _core.Detached:
            identity.renew()  # forked by code that runs no hooks
            process = self._process()
        except _core.Retired:
            process.look()
        except _core.Damaged:
            # Whoever takes the lock next repairs the segment. But part of a send may have arrived, and is not repeated.
            if operation in _SENDS:
                raise SegmentDamaged(_MAY_BE_LOST) from None
        except _core.Busy:
            core = process.segment.core
            if process.stuck and core.lock_word | 1 == process.stuck:
                raise SegmentBusy(self._busy(core)) from None
        return await self._call_again(process, operation, *args)

    async def _call_again(self, process: ProcessState, operation: Callable[[_core.Segment, *Ts], T], *args: *Ts) -> T:
        tries = 0
        while True:
            core = process.segment.core
            progress = core.progress
            await asyncio.sleep(0)
            try:
                return operation(core, *args)
            except (_core.Damaged, _core.Retired, _core.Detached):
                raise SegmentDamaged(_MAY_BE_LOST) from None
            except _core.Busy:
                # The clock would blame a caller that was stopped itself; what counts is that nobody got the lock.
                tries = tries + 1 if core.progress == progress else 0
                if tries >= _TRIES:
                    process.stuck = core.lock_word | 1
                    raise SegmentBusy(self._busy(core)) from None

    def _busy(self, core: _core.Segment) -> str:
        return (
            f"The segment of prefix {self._settings.prefix!r} is locked by {holder(core)}, which does not go on. It is "
            f"stopped or being debugged; continue or kill it."
        )

    def _channel_full(self, channel: str, part: str, capacity: int) -> str:
        what = f"The inbox {part} of {channel}" if part != channel else f"Channel {channel}"
        return (
            f"{what} is at its capacity of {capacity} unread messages. Read faster, or raise capacity or "
            f"channel_capacity."
        )

    def _memory_full(self, channel: str) -> str:
        return (
            f"No room for a message to {channel}: message_memory={self._sizes[0]} bytes is used up by unread "
            f"messages, or /dev/shm is ({shm_room()}). Read faster, lower expiry or capacity, or raise it."
        )


def _let_go(segment: LocalSegment, parts: dict[str, Callable[[], None]]) -> None:
    """What a layer object that is collected leaves behind: its inboxes, and perhaps the segment."""
    if segment.is_own():
        for part in parts:
            with contextlib.suppress(_core.Busy, _core.Damaged, _core.Retired, _core.Detached):
                segment.core.close_inbox(part)
    release(segment)


_MAY_BE_LOST = (
    "The shared segment held something impossible and is being repaired; this message may be lost. If this happens "
    "again, something else writes to the segment: remove it from /dev/shm and report it."
)

_starting = threading.Lock()


def _renew_lock() -> None:
    global _starting
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
