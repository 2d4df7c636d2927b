# SPDX-License-Identifier: BSD-3-Clause
"""The machine, as the remote half sees it: one addressee, whose memberships and streams are in shared memory.

The rules are those of `tests/models/stream.py` and `tests/models/registration.py`. Each method is one critical section
of the core, or needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import methodcaller

from hybrid_layer.clock import monotonic
from hybrid_layer.envelope import excluded_in
from hybrid_layer.exceptions import HybridLayerError, SegmentBusy, SegmentDamaged, Undecodable
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.transport import LocalTransport
from hybrid_layer.names import local, non_local
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import warn, warn_of_full_members
from hybrid_layer.transport import Arrival, Excluded, Group, Position, Renewed, Taken, View

_TAKEN = (Taken.DONE, Taken.FORGET, Taken.SEEN, Taken.STALE, Taken.LATER)
"""As `enum outcome` has them."""
_KINDS = {"direct": 0, "group": 1, "+": 2, "-": 3, "flush": 4, "nothing": 4}
"""As `enum arrival_kind` has them. A flush is told by the entry's number of flushes."""
_MOST_NS = 2**62


class LocalMachine:
    """Implements `hybrid_layer.transport.Machine` over the segment that `transport` uses."""

    def __init__(self, transport: LocalTransport, keeps: Callable[[str], bool]) -> None:
        self._transport = transport
        self.keeps = keeps

    async def id(self) -> str:
        """The random id that all processes of this machine read in the segment."""
        return (await self._transport.joined()).segment.core.machine

    async def owns(self, channel: str) -> bool:
        """Whether `channel` is local: a normal channel that it keeps, or process-specific and of this machine."""
        if "!" not in channel:
            return self.keeps(channel)
        await self._transport.joined()
        return self._transport.owns(channel)

    # Groups

    async def join(self, group: str, channel: str, shard: int) -> tuple[bool, bool]:
        """Make `channel` a member. Return whether it is new, and whether the group's record is valid until it ends."""
        return await self._transport.group_join(group, channel, shard)

    async def leave(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""
        await self._transport.group_discard(group, channel)

    async def record(self, group: str, shard: int, view: View, t: int, life: float) -> None:
        """Store that the server has the registration `t` for `life` seconds, as asked with `view`."""
        await self._transport.call(_record, group, shard, view, t, _nanoseconds(life))

    async def groups(self, place: int) -> tuple[int | None, list[Group]]:
        """Some of the groups, from `place` on (0 at first), and the next place; None at the end."""
        following, groups = await self._transport.call(_core.Segment.groups, place)
        return following, [Group(*group) for group in groups]

    async def forget(self, group: str, shard: int, t: int) -> bool:
        """Forget the registration `t` of a group without members. False: it has a member again, or a newer one."""
        return await self._transport.call(_core.Segment.forget, group, shard, t)

    def has_groups(self) -> bool:
        """Whether any group has members here, or had any within the last minute."""
        return self._transport.process().segment.core.has_groups()

    async def group_send(self, group: str, payload: bytes) -> str:
        """Send to the members on this machine. Return the machine's id, read in the same step."""
        return await self._transport.group_send_here(group, payload)

    async def group_send_multiple(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> str:
        """As `group_send`, for several, without `excluded`."""
        return await self._transport.group_send_multiple_here(group, payloads, excluded)

    async def group_channels(self, group: str, ends: bool) -> list[str]:
        """The members on this machine. With `ends`, end their memberships."""
        return await self._transport.group_channels(group, ends)

    # The stream on each server

    async def look(self, shard: int) -> View:
        """What the machine knows of a server."""
        return await self._transport.call(_look, shard)

    async def put(self, shard: int, view: View, arrival: Arrival) -> Taken:
        """Take in an entry that was read with `view`, once and in order: moves the position, then does it."""
        transport, policy = self._transport, self._transport.policy
        capacities: dict[str, int] = {}
        excluded: Excluded = {}
        capacity = policy.capacity_for(arrival.channel) if arrival.kind == "direct" else policy.capacity
        process = await transport.joined()
        try:
            if arrival.kind == "group":
                excluded = excluded_in(arrival.payload)
                if not policy.uniform:
                    capacities = await transport.capacities_in(arrival.group)
            outcome, loops, dropped, is_too_large = await transport.call(
                _put, shard, view, arrival, capacity, capacities, excluded
            )
        except Undecodable as error:
            return await self._pass_over(shard, view, arrival, "undecodable", str(error))
        except (SegmentBusy, SegmentDamaged):
            return Taken.LATER  # if it was damaged after the entry was taken in, the next put says so
        except _core.NoMemory as error:
            if str(error) == "group_memory" and arrival.kind == "+":
                # Unlike messages, memberships may stay for days. The other entries must not wait so long.
                return await self._pass_over(shard, view, arrival, "memory", "all of group_memory is in use")
            return Taken.LATER
        except ValueError:  # a name that no channel or group has
            return await self._pass_over(shard, view, arrival, "errors", "its names are none")
        if loops:
            process.segment.wake_loops(loops)
        if dropped or is_too_large:
            _warn_of_drop(arrival, policy, dropped)
        return _TAKEN[outcome]

    async def _pass_over(self, shard: int, view: View, arrival: Arrival, key: str, why: str) -> Taken:
        taken = await self.put(shard, view, Arrival(*arrival[:3], "nothing"))
        if taken is Taken.DONE:
            self.count(key)
            is_note = arrival.kind == "+"
            what = f"a member of group {arrival.group}" if is_note else f"an entry of kind {arrival.kind}"
            warn(("passed over", shard), f"Another machine's message was dropped, {what}: {why}.")
        return taken

    async def renewed(self, shard: int, view: View, answer: Renewed) -> None:
        """Take over a server's answer to the renewal that was sent with `view`."""
        await self._transport.call(_renewed, shard, view, answer)

    async def walked(self, shard: int, registration: int) -> None:
        """Note that all groups were registered since the server had `registration`."""
        await self._transport.call(_core.Segment.walked, shard, registration)

    async def void(self, shard: int) -> None:
        """Note that the server may have lost what it knew of the machine."""
        await self._transport.call(_core.Segment.void, shard)

    def meet_flush(self, shard: int, incarnation: int, flushes: int) -> None:
        """Note a flush of a server, and forget this machine's messages with it, once. From any thread."""
        try:
            process = self._transport.process()
        except HybridLayerError as error:  # the servers' side goes on without this machine's
            warn("meet flush", f"A flush of the servers was not repeated in shared memory: {error}")
            return
        meet = methodcaller("meet_remote_flush", shard, incarnation, flushes)
        process.segment.defer(lambda core: process.inbox.clear() if meet(core) else None)

    # Who reads

    def leases(self, shards: int) -> Sequence[int]:
        """The lease of each server: another number each time that its reader renews it, 0 if nobody has it."""
        return self._core().leases(shards)

    def take_lease(self, shard: int, seen: int) -> int:
        """Take or renew the lease, unless it has changed since it was `seen`. Return what it is now, or 0."""
        return self._core().take_lease(shard, seen)

    def drop_lease(self, shard: int, seen: int) -> None:
        """Give the lease back, unless another process has taken it."""
        self._core().drop_lease(shard, seen)

    def outages(self, shards: int) -> Sequence[int]:
        """For each server, how often it was lost to the machine and came back: odd while it is lost."""
        return self._core().outages(shards)

    def set_outage(self, shard: int, is_lost: bool) -> None:
        """Note that a server was lost to the machine, or is back."""
        self._core().set_outage(shard, is_lost)

    def count(self, key: str, n: int = 1) -> None:
        """Add to a counter of the machine."""
        self._transport.process().counters.count(key, n)

    def count_remote(self, key: str, n: int) -> bool:
        """Add to a counter of what the machine's processes do on servers. False: the process is not attached yet."""
        process = self._transport.attached()
        if process is not None:
            process.counters.count_remote(key, n)
        return process is not None

    async def remote_counters(self) -> dict[str, int]:
        """These counters."""
        return (await self._transport.joined()).counters.remote_as_dict()

    def report(self, channels: Sequence[str], payload: bytes, life: float) -> None:
        """Give a message to channels of this process, beside their queues. It expires in `life` seconds."""
        process = self._transport.process()
        process.inbox.deliver(channels, payload, monotonic() + life, process.segment.core.epoch)

    def is_waited_on(self, channel: str) -> bool:
        """Whether a coroutine of this process waits on `channel`, which is named after the machine."""
        return self._transport.process().inbox.is_waited_on(channel)

    def _core(self) -> _core.Segment:
        return self._transport.process().segment.core


# Each in one step with a look at whose segment it is: the process may have moved to another machine's.


def _look(core: _core.Segment, shard: int) -> View:
    position, *others = core.look(shard)
    return View(core.machine, position and Position(*position), *others)


def _record(core: _core.Segment, group: str, shard: int, view: View, t: int, life_ns: int) -> None:
    if core.machine == view.machine:
        core.record(group, shard, view.turn, view.registration, t, life_ns)


def _renewed(core: _core.Segment, shard: int, view: View, answer: Renewed) -> None:
    if core.machine == view.machine:
        ms, sequence = view.position or (None, None)
        run, last, incarnation, flushes, registration = answer
        core.renewed(shard, view.turn, ms, sequence, view.registration, run, *last, incarnation, flushes, registration)


def _put(
    core: _core.Segment,
    shard: int,
    view: View,
    arrival: Arrival,
    capacity: int,
    capacities: dict[str, int],
    excluded: Excluded,
) -> tuple[int, int, int, bool]:
    channel = arrival.channel
    return core.put(
        view.machine,
        shard,
        view.turn,
        *arrival.id,
        arrival.incarnation,
        arrival.flushes,
        _KINDS[arrival.kind],
        _nanoseconds(arrival.life),
        arrival.group,
        non_local(channel),
        local(channel),
        arrival.t,
        arrival.payload,
        capacity,
        capacities,
        excluded,
    )


def _nanoseconds(seconds: float) -> int:
    return max(0, min(int(seconds * 1e9), _MOST_NS))


def _warn_of_drop(arrival: Arrival, policy: Policy, dropped: int) -> None:
    is_to_group = arrival.kind == "group"
    name = arrival.group if is_to_group else arrival.channel
    whose = f"to group {name}" if is_to_group else f"from another machine to {name}"
    if not dropped:
        warn(("memory", name), f"A message {whose} was dropped: message_memory has no room for all of it.")
    elif is_to_group:
        warn_of_full_members(name, dropped)
    else:
        warn(
            ("full", name),
            f"A message {whose} was dropped: its inbox is at its capacity of {policy.capacity_for(name)} unread "
            f"messages. Read faster, or raise capacity or channel_capacity.",
        )
