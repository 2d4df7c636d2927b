# SPDX-License-Identifier: BSD-3-Clause
"""The local transport: normal channels, process-specific channels and groups through the shared segment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from channels.exceptions import ChannelFull

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import GroupMemoryFull, SegmentDamaged
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.calls import MAY_BE_LOST, SegmentCalls
from hybrid_layer.ipc.objects import label
from hybrid_layer.ipc.ownership import refuse
from hybrid_layer.ipc.process import InboxSource
from hybrid_layer.names import local, machine_of, non_local
from hybrid_layer.several import next_step, note_stored
from hybrid_layer.statistics import KEYS, ChannelStatistics, warn, warn_of_full_members
from hybrid_layer.transport import Excluded

T = TypeVar("T")

_MEMORY = KEYS.index("memory")


class LocalTransport(SegmentCalls):
    """Implements `hybrid_layer.transport.Transport` for one layer object. It attaches to the segment at first use."""

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
            raise SegmentDamaged(MAY_BE_LOST) from None
        except OSError as error:
            refuse(error, label(process.segment.name))
        if loops:
            process.segment.wake_loops(loops)

    async def send_multiple(self, channel: str, payloads: Sequence[bytes]) -> None:
        """Store the first of `payloads` that there is room for. Errors are those of `send`, with ``stored``."""
        queue, name, capacity = non_local(channel), local(channel), self.policy.capacity_for(channel)
        stored = 0
        try:
            while stored < len(payloads):
                step = next_step(payloads, stored)
                if len(step) > 1:
                    args = (queue, name, step, capacity, self._expiry_ns)
                    loops, done = await self.call(_core.Segment.push_several, *args)
                    await self._wake(loops)
                    stored += done
                    if done == len(step):
                        continue
                await self.send(channel, payloads[stored])  # which says why, if there is no room
                stored += 1
        except Exception as error:
            note_stored(error, stored)
            raise

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
            return self._no_memory_for(group, error)
        if dropped:
            warn_of_full_members(group, dropped)
        if loops:
            process.segment.wake_loops(loops)
        return machine

    async def group_send_multiple(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> None:
        """As `group_send`, for several, in order, without `excluded`."""
        await self.group_send_multiple_here(group, payloads, excluded)

    async def group_send_multiple_here(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> str:
        """As `group_send_multiple`. Return the id of the machine whose members these were last."""
        policy, machine, sent = self.policy, "", 0
        while sent < len(payloads):
            step = next_step(payloads, sent)
            capacities = {} if policy.uniform else await self.capacities_in(group)
            args = (group, step, policy.capacity, capacities, self._expiry_ns, excluded)
            try:
                loops, dropped, machine, done = await self.call(_core.Segment.group_send_several, *args)
            except _core.NoMemory as error:
                machine = self._no_memory_for(group, error)
                sent += 1
                continue
            if dropped:
                warn_of_full_members(group, dropped)
            await self._wake(loops)
            sent += done
        return machine

    def _no_memory_for(self, group: str, error: _core.NoMemory) -> str:
        """Count a message to `group` that is dropped. Return the machine's id."""
        core = self.process().segment.core
        core.count(_MEMORY, 1)
        warn(("memory", group), f"A message to group {group} was dropped: {self._no_room('it', error)}")
        return core.machine

    async def _wake(self, loops: int) -> None:
        if loops:
            (await self.joined()).segment.wake_loops(loops)

    async def capacities_in(self, group: str) -> dict[str, int]:
        """The capacities of the group's members that differ from the common one."""
        policy = self.policy
        found = {}
        for target in await self.call(_core.Segment.group_targets, group):
            capacity = policy.capacity_for(target)
            if capacity != policy.capacity:
                found[target] = capacity
        return found

    async def group_channels(self, group: str, ends: bool) -> list[str]:
        """The members of `group`. With `ends`, end their memberships. The lock is held for one process's at a time."""
        found = []
        for target in await self.call(_core.Segment.group_targets, group):
            found += [target + name for name in await self.call(_core.Segment.group_members, group, target, ends)]
        if ends:
            memberships = (await self.joined()).memberships
            for channel in found:
                memberships.pop((group, channel), None)
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

    async def channel_statistics(self, channel: str) -> ChannelStatistics:
        """What is known of `channel` on this machine."""
        pending, age, sent, full = await self.call(_core.Segment.state, non_local(channel))
        return {
            "messages_count": sent,
            "messages_pending": pending,
            "messages_max_age": age,
            "channel_full_count": full,
        }

    def count(self, key: str) -> None:
        """Add one to the counter `key`."""
        self.process().counters.count(key)

    def owns(self, channel: str) -> bool:
        """Whether `channel`, which is named after a machine, is in this segment: named after it, or of this process."""
        process = self._current() or self.process()
        return machine_of(channel) == process.segment.core.machine or non_local(channel) in process.inboxes
