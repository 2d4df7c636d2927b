# SPDX-License-Identifier: BSD-3-Clause
"""What servers answer, and what is read from them: data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from hybrid_layer.transport import Position


class Entry(NamedTuple):
    """One message, for one or several channels of one addressee."""

    stamp_ms: int
    """When it expires, in ms by the server's clock."""
    epoch: bytes
    """The flush epoch in which it was stored. Empty if its place among published messages implies that."""
    names: Sequence[str]
    payload: bytes
    raw: bytes = b""
    """What the store needs to put it back."""


class Note(NamedTuple):
    """A change to a membership of this process by another process, or a flush."""

    kind: str
    """``+`` a membership began, ``-`` it ended, ``f`` a flush; a later release may add others."""
    group: str = ""
    member: str = ""
    stamp_ms: int = 0
    """When the membership ends, in ms by the server's clock."""
    epoch: bytes = b""


class Outcome(Enum):
    """The result of sending to one channel."""

    STORED = 0
    FULL = 1
    DEAD = 2
    """The addressee is dead, or seems to be."""


class Sent(NamedTuple):
    """The reply to `send`."""

    outcome: Outcome
    expired: int
    """Expired entries that were dropped to make room."""


class SeveralSent(NamedTuple):
    """The reply to `send_multiple`."""

    outcome: Outcome
    """FULL: not all are stored."""
    expired: int
    done: int
    """How many are stored, or would be if the addressee were not dead: the first ones."""


class GroupSent(NamedTuple):
    """The reply to `group_send`: numbers of members."""

    reached: int
    full: int
    dead: int
    expired: int
    """Expired entries that were dropped to make room."""
    elsewhere: Sequence[str] = ()
    """Members that have not got it: normal channels whose queues are perhaps on other shards."""


class Report(NamedTuple):
    """What a process has counted since its last report, to be added to what all processes have counted.

    It is not a reply, but travels with a request. A store adds each number of a reporter once, also if it is repeated
    up to two days later, or comes behind the next one.
    """

    reporter: str
    """A random id of the process and layer."""
    number: int
    counts: Mapping[str, int]
    """By one of `hybrid_layer.statistics.KEYS`; or by ``sent|CHANNEL`` and ``full|CHANNEL``, of a normal channel, or of
    all others together under ``""``."""


class QueueState(NamedTuple):
    """What a server knows of a channel."""

    pending: int
    """Unread messages that have not expired, as far as the server can tell."""
    left: float | None
    """Seconds until the oldest of them expires; None without any, or if the server cannot tell."""
    counts: Mapping[str, int]
    """``sent`` and ``full``, if anything was counted by the channel's name."""


class Renewal(NamedTuple):
    """The reply to `renew`."""

    was_lost: bool
    """The addressee may have counted as dead, or the server lost its data about it."""
    epoch: bytes
    notes: Sequence[Note | None]
    """Notes that others left for it. None stands for a note that cannot be read."""


class MachineRenewal(NamedTuple):
    """The reply to `renew_machine`."""

    run: int
    """The server's run id, as a number below 2^64; 0 if the server does not tell."""
    last: Position
    epoch: bytes
    registration: int


class Registration(NamedTuple):
    """The reply to `register`."""

    t: int
    """When it ends, in ms by the server's clock; no other registration of the group by this machine has this number."""
    life: float
    """Seconds until then."""
    epoch: bytes


class StreamItem(NamedTuple):
    """One entry of a machine's stream.

    It has neither `entry` nor `note` if it cannot be read, or is for a channel of another machine.
    """

    id: Position
    entry: Entry | None = None
    """A message. To a group, `names` is empty."""
    note: Note | None = None
    group: str = ""
    t: int = 0
    """The registration of `group` that it was sent to."""


class Batch(NamedTuple):
    """What one read returned."""

    source: str
    """The queue or inbox; empty for notes."""
    entries: Sequence[Entry | None] = ()
    """None stands for an entry that cannot be read."""
    notes: Sequence[Note | None] = ()
