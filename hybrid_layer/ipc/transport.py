"""The machine-local transport: normal channels, process-specific channels and groups through the shared segment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar, TypeVarTuple

from channels.exceptions import ChannelFull

from hybrid_layer import identity
from hybrid_layer.exceptions import GroupMemoryFull, HybridLayerError, SegmentBusy, SegmentDamaged
from hybrid_layer.inbox import Inbox
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.diagnostics import holder, shm_room
from hybrid_layer.ipc.segment import LocalSegment, acquire, release
from hybrid_layer.ipc.station import Station
from hybrid_layer.names import local, non_local
from hybrid_layer.statistics import KEYS, warn, warn_of_full_members
from hybrid_layer.transport import Settings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_TRIES = 40
"""Waits of 50 ms for the segment's lock, all without any progress, before its holder is held to be stopped."""
_LOOK = 1.0
"""Seconds between two looks of a sender."""
_RECEIVED = KEYS.index("received")
_MEMORY = KEYS.index("memory")


class SegmentCounters:
    """Counters that lie in the segment, so that they are the machine's and outlive the process that counts."""

    def __init__(self, segment: LocalSegment) -> None:
        self._segment = segment

    def count(self, key: str, n: int = 1) -> None:
        """Add `n` to the counter `key`, one of KEYS."""
        self._segment.core.count(KEYS.index(key), n)

    def as_dict(self) -> dict[str, int]:
        """All counters, also those at 0."""
        return dict(zip(KEYS, self._segment.core.counters(), strict=False))

    def warn(self, key: Hashable, text: str, *args: object) -> None:
        """Warn, once a minute."""
        warn(key, text, *args)


class _Process:
    """What one layer object has in one process. A forked child makes its own and touches no lock of this one."""

    def __init__(self, settings: Settings, segment: LocalSegment) -> None:
        self.identity = identity.current()
        self.segment = segment
        self.moves = segment.moves
        self.counters = SegmentCounters(segment)
        self.inbox = Inbox(settings.policy, self.counters, epoch=lambda: segment.core.epoch)
        self.parts: dict[str, Callable[[], None]] = {}
        """Inbox name -> its poll, for `Inbox.receive`."""
        self.memberships: dict[tuple[str, str], float] = {}
        """(group, channel) -> deadline of our own channels, to be added again after a move to another segment."""
        self.draining = threading.Lock()
        """Draining and distributing is one step, or two loops could turn the order of two messages."""
        self.next_look = 0.0
        """When a sender makes sure that the segment is still there; receivers do so while they wait."""
        self.stuck = 0
        """The lock word of a holder that did not go on."""

    def look(self) -> None:
        """Move if the segment was lost."""
        self.next_look = time.monotonic() + _LOOK
        self.segment.recover_if_lost()
        self.segment.warn_of_unread()
        if self.moves != self.segment.moves:
            self.restore()

    def open_inbox(self, part: str) -> None:
        """Make `part` receivable."""
        self.segment.core.open_inbox(part)
        self.parts[part] = partial(self._poll, part)

    def _poll(self, part: str) -> None:
        station = self.segment.stations.get()
        if part not in station.watched:
            station.attend(part, partial(self.take_in, part, station), partial(self.inbox.is_awaited, station.loop))
            self.take_in(part, station)

    def take_in(self, part: str, station: Station) -> None:
        """Move messages of an inbox into the buffers of their channels, while somebody in this loop waits for one."""
        has_restored = False
        with self.draining:
            # What nobody waits for stays in the segment, where its sender's capacity holds.
            while self.inbox.unserved_loop(station.loop) is station.loop:
                core = self.segment.core
                try:
                    messages, has_more = core.drain(part, station.number)
                except (_core.Busy, _core.Damaged, _core.NoMemory, _core.Retired):
                    station.retry_soon(partial(self.take_in, part, station))
                    return
                except _core.Gone:
                    # The segment does not know us: it is another one, or ours was damaged.
                    if has_restored or not self.restore():
                        station.retry_soon(partial(self.take_in, part, station))
                        return
                    has_restored = True
                    continue
                epoch = core.epoch
                for names, payload, deadline in messages:
                    self.inbox.deliver([part + name for name in names], payload, deadline, epoch)
                if not has_more:
                    # Found empty and registered in one step: what comes from now on is announced to this loop.
                    if station.number >= 0:
                        station.watched.add(part)
                    return

    def restore(self) -> bool:
        """Register anew in a segment that does not know us: it is another one, or we have another slot.

        False: that did not work now, and is to be tried again.
        """
        moves = self.segment.moves
        core = self.segment.core
        now = time.monotonic()
        try:
            for part in list(self.parts):
                core.open_inbox(part)
            for (group, channel), deadline in list(self.memberships.items()):
                if deadline > now:
                    part = non_local(channel)
                    core.group_add(group, part, local(channel) if "!" in channel else "", int((deadline - now) * 1e9))
                else:
                    self.memberships.pop((group, channel), None)
        except (_core.Busy, _core.Damaged, _core.Retired, _core.Detached, _core.NoMemory) as error:
            warn(("restore", self.segment.name), "Memberships are not restored yet: %s", type(error).__name__)
            return False
        self.moves = moves
        return True


class LocalTransport:
    """One layer object's use of the process's segment, which it attaches at first use."""

    def __init__(self, settings: Settings, message_memory: int, group_memory: int) -> None:
        self._settings = settings
        self._sizes = (message_memory, group_memory)
        self._expiry_ns = int(settings.policy.expiry * 1e9)
        self._group_expiry_ns = int(settings.policy.group_expiry * 1e9)
        self._own: _Process | None = None

    # Channels

    async def open_inbox(self, part: str) -> None:
        """Make `part` receivable by this process."""
        process = self._process()
        if part not in process.parts:
            await self._call(_core.Segment.open_inbox, part)
            process.open_inbox(part)

    async def send(self, channel: str, payload: bytes) -> None:
        """Store `payload` for one reader. Raises `ChannelFull` or `SegmentBusy`; then nothing was stored."""
        process = self._process()
        if time.monotonic() >= process.next_look:
            process.look()
        part, name = (non_local(channel), local(channel)) if "!" in channel else (channel, "")
        capacity = self._settings.policy.capacity_for(channel)
        try:
            loops = process.segment.core.push(part, name, payload, capacity, self._expiry_ns)
        except _core.Full:
            raise ChannelFull(self._channel_full(channel, part, capacity)) from None
        except _core.NoMemory:
            process.segment.core.count(_MEMORY, 1)
            raise ChannelFull(self._memory_full(channel)) from None
        except _core.Damaged:
            raise SegmentDamaged(_MAY_BE_LOST) from None
        except (_core.Busy, _core.Detached, _core.Retired):
            loops = await self._send_patiently(channel, part, name, payload, capacity)
        if loops:
            process.segment.wake_loops(loops)

    async def _send_patiently(self, channel: str, part: str, name: str, payload: bytes, capacity: int) -> int:
        try:
            return await self._call(_core.Segment.push, part, name, payload, capacity, self._expiry_ns)
        except _core.Full:
            raise ChannelFull(self._channel_full(channel, part, capacity)) from None
        except _core.NoMemory:
            self._process().segment.core.count(_MEMORY, 1)
            raise ChannelFull(self._memory_full(channel)) from None

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
                with contextlib.suppress(_core.Busy, _core.Damaged):
                    process.segment.core.flush()
                    break
            process.inbox.clear()

    # Steps

    def _process(self) -> _Process:
        process = self._own
        if process is None or process.identity is not identity.current():
            return self._start()
        if process.moves != process.segment.moves:
            process.restore()
        return process

    def _start(self) -> _Process:
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
            self._own = process = _Process(self._settings, segment)
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
            pass  # whoever takes the lock next repairs the segment
        except _core.Busy:
            core = process.segment.core
            if process.stuck and core.lock_word | 1 == process.stuck:
                raise SegmentBusy(self._busy(core)) from None
        return await self._call_again(process, operation, *args)

    async def _call_again(self, process: _Process, operation: Callable[[_core.Segment, *Ts], T], *args: *Ts) -> T:
        tries = 0
        while True:
            core = process.segment.core
            progress = core.progress
            await asyncio.sleep(0)
            try:
                return operation(core, *args)
            except _core.Damaged:
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
