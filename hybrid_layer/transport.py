# SPDX-License-Identifier: BSD-3-Clause
"""The interface of each half of a layer, local and remote, to the layer classes.

A transport moves bytes. `base` checks names, and encodes and decodes messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Literal, NamedTuple, Protocol

from hybrid_layer.statistics import ChannelStatistics

Excluded = Mapping[str, Sequence[str]]
"""Channels that get nothing of a group's message: by the part up to and including ``!``, what follows it. A normal
channel is followed by "" alone."""


class Transport(Protocol):
    """A half of the layer. Every method may be called from any event loop and thread."""

    async def open_inbox(self, inbox: str) -> None:
        """Let this process receive on the channels of `inbox`, whose names begin with it. `new_channel` calls this."""

    async def send(self, channel: str, payload: bytes, expiry: float | None = None) -> None:
        """Store `payload`, or raise `ChannelFull`. Never waits for room.

        It expires in `expiry` seconds; None: after those of the layer.
        """

    async def send_multiple(self, channel: str, payloads: Sequence[bytes]) -> None:
        """Store the first of `payloads` that there is room for, in order.

        Any error has an attribute ``stored``: how many are stored for sure. With `ChannelFull` it is exact.
        """

    async def receive(self, channel: str) -> bytes:
        """Wait for the next payload of `channel`. A cancellation at any point loses nothing."""

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member of `group` for `group_expiry` seconds from now."""

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""

    async def group_send(self, group: str, payload: bytes) -> None:
        """Send `payload` to every member. A member at capacity misses it, which is counted."""

    async def group_send_multiple(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> None:
        """As `group_send`, for several: in order, and to the members as of now, without `excluded`.

        Each of `payloads` names `excluded`, too: see `hybrid_layer.envelope`.
        """

    async def group_channels(self, group: str, ends: bool) -> list[str]:
        """The members of `group`. With `ends`, ends their memberships.

        Raises `RemoteUnavailable` with an attribute ``partial``, those that are known, if others did not answer.
        """

    async def flush(self) -> None:
        """Delete every message and group of this prefix."""

    async def close(self) -> None:
        """Close what belongs to the running loop."""

    async def statistics(self) -> dict[str, int]:
        """The counters of this half, with the keys `hybrid_layer.statistics.KEYS`.

        Of all processes: the machine's in shared memory, the prefix's on servers.
        """

    async def channel_statistics(self, channel: str) -> ChannelStatistics:
        """What this half knows of `channel`."""

    def count(self, key: str) -> None:
        """Add one to the counter `key`, for events that only the layer notices, such as an undecodable payload."""


class RemoteHalf(Transport, Protocol):
    """A transport that the hybrid layer can use as its remote half."""

    def serve_machine(self) -> None:
        """From now on, read the machine's streams, if the servers know the machine."""

    async def open_machine(self) -> None:
        """Make the machine known to the servers, and keep it known: this process has a channel that is named after it.

        Raises `RemoteUnavailable`.
        """

    def waits(self, channel: str) -> None:
        """Note that a coroutine begins to wait on a channel that is named after the machine: it is told of outages."""


class Group(NamedTuple):
    """A group, as the machine has it."""

    name: str
    shard: int
    """Its home, if there is a registration."""
    t: int
    """The registration that the record names; 0: none."""
    idle: float
    """Seconds since its last member went; 0 if it has any."""


class Position(NamedTuple):
    """The id of an entry in a machine's stream: ids rise."""

    ms: int
    sequence: int


class View(NamedTuple):
    """What the machine knows of one server, read in one step. See `tests/models` for why each part is needed."""

    machine: str
    """The id of the machine whose segment this is."""
    position: Position | None
    """The last entry that was taken in; None if that is not known."""
    turn: int
    """Another number each time that the position is set anew."""
    run: int
    """The run id of the server that the position belongs to; 0 before the first renewal."""
    incarnation: int
    """Of the server's data (24 bits); with `flushes`, the flush epoch."""
    flushes: int
    """How often the server was flushed (20 bits)."""
    registration: int
    """The value of the machine's alive key, as the server set it. 0: the server knows nothing of the machine."""
    walked: int
    """The `registration` for which all groups have been registered."""
    forgotten: int
    """The highest T ever given to `forget`."""
    inboxes: int
    """How many inboxes the machine's processes have."""


class Renewed(NamedTuple):
    """A server's answer to a renewal."""

    run: int
    last: Position
    """The last id of the machine's stream, even if it is empty."""
    incarnation: int
    flushes: int
    registration: int
    """The value of the alive key now."""


class Arrival(NamedTuple):
    """An entry of a machine's stream, to be taken in."""

    id: Position
    incarnation: int
    flushes: int
    kind: Literal["direct", "group", "+", "-", "flush", "nothing"]
    """A message to a channel, one to a group, a membership that another machine began or ended, the news of a flush.
    ``nothing`` is passed over: it has expired, or cannot be read."""
    channel: str = ""
    group: str = ""
    t: int = 0
    """Which registration of the group the message was sent to."""
    payload: bytes = b""
    life: float = 0.0
    """Seconds until the message expires, or the membership ends."""


class Taken(Enum):
    """What became of an `Arrival`."""

    DONE = "done"
    """Taken in, or dropped and counted, or from before a flush."""
    FORGET = "forget"
    """As DONE, but the group has no member here: the server is to be told."""
    SEEN = "seen"
    """Taken in before."""
    STALE = "stale"
    """Refused: what the reader knows is out of date. It renews, and reads anew."""
    LATER = "later"
    """Refused: there is no memory, the segment's lock is busy, or the machine has just moved. Try again."""


MOST_SHARDS = 64
"""Servers, or parts of a cluster, of which shared memory can keep something."""


class Machine(Protocol):
    """The machine as the remote half sees it: one addressee for all its channels.

    These are its normal channels, and the process-specific ones that are named after it. Their memberships are in
    shared memory; the servers know only which groups have members here. `shard` is a number below `MOST_SHARDS`.
    Methods that wait for the segment's lock raise `SegmentBusy` if its holder is stalled.
    """

    async def id(self) -> str:
        """The random id that all processes of this machine share."""

    def keeps(self, channel: str, /) -> bool:
        """Whether a normal channel's queue is on the machine. Otherwise, as a member, it has a queue on the servers."""

    async def owns(self, channel: str) -> bool:
        """Whether `channel` is in this machine's memory: a normal channel that it keeps, or one named after it."""

    # Groups

    async def join(self, group: str, channel: str, shard: int) -> tuple[bool, bool]:
        """Make `channel` a member for `group_expiry` seconds. Returns whether it is a new member, and whether the
        group's record is valid until then: the server at the group's home, `shard`, knows that it has members here."""

    async def leave(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""

    async def record(self, group: str, shard: int, view: View, t: int, life: float) -> None:
        """Store that the server has the registration `t` for `life` seconds, as asked with `view`. Nothing is stored
        if T was forgotten meanwhile."""

    async def groups(self, place: int) -> tuple[int | None, list[Group]]:
        """Some of the groups, from `place` on (0 at first), and the next place; None at the end."""

    async def forget(self, group: str, shard: int, t: int) -> bool:
        """Forget the registration `t` of a group without members for a minute. False: it has a member again."""

    def has_groups(self) -> bool:
        """Whether any group has members here."""

    async def group_send(self, group: str, payload: bytes) -> str:
        """Send to the members on this machine. Returns the machine's id, read in the same step."""

    async def group_send_multiple(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> str:
        """As `group_send`, for several, in order, without `excluded`."""

    async def group_channels(self, group: str, ends: bool) -> list[str]:
        """The members on this machine. With `ends`, ends their memberships."""

    # The stream on each server

    async def look(self, shard: int) -> View:
        """What the machine knows of a server."""

    async def put(self, shard: int, view: View, arrival: Arrival) -> Taken:
        """Take in an entry that was read with `view`, once and in order: moves the position, then does it."""

    async def renewed(self, shard: int, view: View, answer: Renewed) -> None:
        """Take over a server's answer to the renewal that was sent with `view`."""

    async def walked(self, shard: int, registration: int) -> None:
        """Note that all groups were registered since the server had `registration`."""

    async def void(self, shard: int) -> None:
        """Note that the server may have lost what it knew of the machine."""

    def meet_flush(self, shard: int, incarnation: int, flushes: int) -> None:
        """Note a flush of a server: its number, the incarnation of its data (32 bits), how many flushes it had."""

    # Who reads. All without the segment's lock.

    def leases(self, shards: int) -> Sequence[int]:
        """The lease of each server: another number each time that its reader renews it, 0 if nobody has it."""

    def take_lease(self, shard: int, seen: int) -> int:
        """Take or renew the lease, unless it has changed since it was `seen`. Returns what it is now, or 0."""

    def drop_lease(self, shard: int, seen: int) -> None:
        """Give the lease back, unless another process has taken it."""

    def outages(self, shards: int) -> Sequence[int]:
        """For each server, how often it was lost to the machine and came back: odd while it is lost."""

    def set_outage(self, shard: int, is_lost: bool) -> None:
        """Note that a server was lost to the machine, or is back."""

    # For this process

    def count(self, key: str, n: int = 1) -> None:
        """Add to a counter of the machine."""

    def count_remote(self, key: str, n: int) -> bool:
        """Add to a counter of what the machine's processes do on servers. False: the process is not attached yet."""

    async def remote_counters(self) -> dict[str, int]:
        """These counters."""

    def report(self, channels: Sequence[str], payload: bytes, life: float) -> None:
        """Give a message to channels of this process, beside their queues. It expires in `life` seconds."""

    def is_waited_on(self, channel: str) -> bool:
        """Whether a coroutine of this process waits on `channel`, which is named after the machine."""
