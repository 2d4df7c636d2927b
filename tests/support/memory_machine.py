"""A machine in the memory of one process: `hybrid_layer.transport.Machine` by the rules of the models, in few words.

Several transports may share one, as processes share a segment.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from hybrid_layer.clock import monotonic
from hybrid_layer.envelope import without_excluded
from hybrid_layer.exceptions import SegmentBusy
from hybrid_layer.identity import random_id
from hybrid_layer.names import machine_of
from hybrid_layer.statistics import KEYS
from hybrid_layer.transport import Arrival, Excluded, Group, Position, Renewed, Taken, View


class _Stream:
    """What the machine knows of one server."""

    def __init__(self) -> None:
        self.position: Position | None = None
        self.turn = random.getrandbits(32)
        self.run = self.incarnation = self.flushes = 0
        self.registration = self.walked = self.forgotten = 0
        self.lease = self.outages = 0


class _Group:
    def __init__(self) -> None:
        self.members: set[str] = set()
        self.t = self.registration = self.shard = 0
        self.idle_since = 0.0


class MemoryMachine:
    """`delivered` has what came to each channel, with the seconds that it has left."""

    def __init__(self) -> None:
        self.name = random_id()
        self.works = True
        """Without that, it raises `SegmentBusy`."""
        self.has_room = True
        self.delivered: list[tuple[str, bytes]] = []
        self.lives: list[float] = []
        self.reported: list[tuple[str, bytes]] = []
        self.counted: defaultdict[str, int] = defaultdict(int)
        self.remote: defaultdict[str, int] = defaultdict(int)
        self._streams: defaultdict[int, _Stream] = defaultdict(_Stream)
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)

    def _check(self) -> None:
        if not self.works:
            raise SegmentBusy("locked")

    async def id(self) -> str:
        self._check()
        return self.name

    def keeps(self, channel: str, /) -> bool:
        return True

    async def owns(self, channel: str) -> bool:
        self._check()
        return "!" not in channel or machine_of(channel) == self.name

    # Groups

    async def join(self, group: str, channel: str, shard: int) -> tuple[bool, bool]:
        self._check()
        found, registration = self._groups[group], self._streams[shard].registration
        is_new = channel not in found.members
        found.members.add(channel)
        return is_new, bool(found.t and registration and found.registration == registration)

    async def leave(self, group: str, channel: str) -> None:
        self._check()
        found = self._groups[group]
        found.members.discard(channel)
        if not found.members:
            found.idle_since = monotonic()

    async def record(self, group: str, shard: int, view: View, t: int, life: float) -> None:
        if group in self._groups and t > self._streams[shard].forgotten:
            found = self._groups[group]
            found.t, found.registration, found.shard = t, view.registration, shard

    async def groups(self, place: int) -> tuple[int | None, list[Group]]:
        return None, [
            Group(name, group.shard, group.t, 0.0 if group.members else monotonic() - group.idle_since)
            for name, group in self._groups.items()
        ]

    async def forget(self, group: str, shard: int, t: int) -> bool:
        found = self._groups[group]
        if found.members or found.t != t:
            return False
        self._streams[shard].forgotten = max(self._streams[shard].forgotten, t)
        del self._groups[group]
        return True

    def has_groups(self) -> bool:
        self._check()
        return bool(self._groups)

    async def group_send(self, group: str, payload: bytes) -> str:
        self._check()
        self._give(sorted(self._groups[group].members), payload, 60)
        return self.name

    async def group_send_multiple(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> str:
        self._check()
        for payload in payloads:
            self._give(without_excluded(sorted(self._groups[group].members), payload), payload, 60)
        return self.name

    async def group_channels(self, group: str, ends: bool) -> list[str]:
        self._check()
        members = sorted(self._groups[group].members)
        for channel in members if ends else ():
            await self.leave(group, channel)
        return members

    def _give(self, channels: Sequence[str], payload: bytes, life: float) -> None:
        self.delivered += [(channel, payload) for channel in channels]
        self.lives += [life] * len(channels)

    # Streams

    async def look(self, shard: int) -> View:
        self._check()
        s = self._streams[shard]
        return View(
            self.name,
            s.position,
            s.turn,
            s.run,
            s.incarnation,
            s.flushes,
            s.registration,
            s.walked,
            s.forgotten,
            inboxes=1,
        )

    async def put(self, shard: int, view: View, arrival: Arrival) -> Taken:
        stream = self._streams[shard]
        if not (self.works and self.has_room):
            return Taken.LATER
        if view.turn != stream.turn or stream.position is None or arrival.incarnation != stream.incarnation:
            return Taken.STALE
        if arrival.id <= stream.position:
            return Taken.SEEN
        stream.position = arrival.id
        if arrival.flushes < stream.flushes:
            return Taken.DONE
        if arrival.flushes > stream.flushes:
            stream.flushes = arrival.flushes
            self._flush()
        return self._do(stream, arrival)

    def _do(self, stream: _Stream, arrival: Arrival) -> Taken:
        group = self._groups[arrival.group] if arrival.group else _Group()
        if arrival.kind == "direct":
            self._give([arrival.channel], arrival.payload, arrival.life)
        elif arrival.kind == "+":
            group.members.add(arrival.channel)
        elif arrival.kind == "-":
            group.members.discard(arrival.channel)
        elif arrival.kind == "group":
            if not group.members:
                stream.forgotten = max(stream.forgotten, arrival.t)
                group.t = group.t if group.t > arrival.t else 0
                return Taken.FORGET
            self._give(without_excluded(sorted(group.members), arrival.payload), arrival.payload, arrival.life)
        return Taken.DONE

    def _flush(self) -> None:
        self._groups.clear()
        for stream in self._streams.values():
            stream.registration = 0

    async def renewed(self, shard: int, view: View, answer: Renewed) -> None:
        stream = self._streams[shard]
        if view.turn != stream.turn:
            return
        is_other = (answer.run, answer.incarnation) != (stream.run, stream.incarnation)
        if stream.position is None or is_other:
            stream.position = answer.last if stream.position is None else min(stream.position, answer.last)
            stream.run, stream.incarnation, stream.flushes = answer.run, answer.incarnation, answer.flushes
            stream.turn += 1
        elif view.position is not None and answer.last < view.position == stream.position:
            stream.position = answer.last
            stream.turn += 1
        if stream.registration == view.registration:
            stream.registration = answer.registration

    async def walked(self, shard: int, registration: int) -> None:
        stream = self._streams[shard]
        if stream.registration == registration:
            stream.walked = registration

    async def void(self, shard: int) -> None:
        self._streams[shard].registration = 0

    def meet_flush(self, shard: int, incarnation: int, flushes: int) -> None:
        """Do nothing: the next entry brings the news."""

    # Who reads

    def leases(self, shards: int) -> Sequence[int]:
        self._check()
        return [self._streams[shard].lease for shard in range(shards)]

    def take_lease(self, shard: int, seen: int) -> int:
        stream = self._streams[shard]
        if stream.lease != seen:
            return 0
        stream.lease = random.getrandbits(62) + 1
        return stream.lease

    def drop_lease(self, shard: int, seen: int) -> None:
        if self._streams[shard].lease == seen:
            self._streams[shard].lease = 0

    def outages(self, shards: int) -> Sequence[int]:
        return [self._streams[shard].outages for shard in range(shards)]

    def set_outage(self, shard: int, is_lost: bool) -> None:
        stream = self._streams[shard]
        stream.outages += stream.outages % 2 != is_lost

    # The process

    def count(self, key: str, n: int = 1) -> None:
        self.counted[key] += n

    def count_remote(self, key: str, n: int) -> bool:
        self.remote[key] += n
        return True

    async def remote_counters(self) -> dict[str, int]:
        return {key: self.remote[key] for key in KEYS}

    def report(self, channels: Sequence[str], payload: bytes, life: float) -> None:
        self.reported += [(channel, payload) for channel in channels]

    def is_waited_on(self, channel: str) -> bool:
        return True
