"""What a kind of servers can do for the layer: the one thing that differs between kinds.

A verb is one call to one server. It learns from the answer what that tells of the server's clock and of the epoch,
and notes it in the `Shard`. Every verb raises `RemoteUnavailable` within the timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Literal, NamedTuple, Protocol

from hybrid_layer.remote.delivery.epoch import Epoch
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.runtime.backoff import ReadingLost


class Entry(NamedTuple):
    """One message, for one or several channels of one addressee."""

    stamp_ms: int
    """When it expires, by the server's clock."""
    epoch: bytes
    """The flush epoch in which it was stored. Empty if its place among what is published tells that."""
    names: Sequence[str]
    payload: bytes
    raw: bytes = b""
    """What the store needs to put it back."""


class Note(NamedTuple):
    """What somebody else did to a membership of this process, or that there was a flush."""

    kind: str
    """``+`` a membership began, ``-`` it ended, ``f`` a flush, or another one of a later release."""
    group: str = ""
    member: str = ""
    stamp_ms: int = 0
    """When the membership ends."""
    epoch: bytes = b""


class Outcome(Enum):
    """What became of a message that was sent to one channel."""

    STORED = 0
    FULL = 1
    DEAD = 2
    """The addressee is gone, or seems to be."""


class Sent(NamedTuple):
    """The reply to `send`."""

    outcome: Outcome
    expired: int
    """Expired entries that were dropped to make room."""


class GroupSent(NamedTuple):
    """The reply to `group_send`: members."""

    reached: int
    full: int
    dead: int
    expired: int
    """Expired entries that were dropped to make room."""


class Renewal(NamedTuple):
    """The reply to `renew`."""

    was_lost: bool
    """The addressee may have counted as dead, or the server lost what it knew of it."""
    epoch: bytes
    notes: Sequence[Note | None]
    """What others left for it. None stands for a note that cannot be read."""


class Batch(NamedTuple):
    """What a reader took in at once."""

    source: str
    """The queue or inbox; empty for notes."""
    entries: Sequence[Entry | None] = ()
    """None stands for an entry that cannot be read."""
    notes: Sequence[Note | None] = ()


class Reader(Protocol):
    """One connection that waits for messages on one shard. It belongs to the task that calls `read`.

    What a read has taken belongs to the caller, so no read is abandoned before its answer is in hand: a cancellation
    interrupts it, and is kept in mind. A reader may take entries away, or read them by position.
    """

    cancelled: bool
    """A cancellation came during a read. The caller uses what was read, then stops."""

    async def connect(self) -> None:
        """Open the connection, if it is not. Raises `ReadingLost`."""

    async def read(self, sources: Sequence[str], count: int) -> Batch | None:
        """Up to `count` entries from the first of `sources` that has any; None after the block time without.

        A source is a normal channel or an inbox. Raises `ReadingLost`; the next call opens another connection.
        """

    async def pause(self, cause: ReadingLost) -> None:
        """Wait before the next try, longer each time."""

    async def learn_time(self, stamps_ms: Iterable[int]) -> None:
        """Know the server's clock as it is now, if one of `stamps_ms`, just read, is over by what is known of it.

        The clock may have been set since. Where the server does not answer, what is known has to do.
        """

    async def learn_epoch(self, epoch: Epoch) -> None:
        """Ask for the epoch as it is now."""

    def interrupt(self) -> None:
        """End the read under way, or the next one, from any thread."""

    def give_up(self) -> None:
        """Let the next cancellation end the read, whatever it holds: the loop will not run long enough to wait."""

    def abort(self, task: asyncio.Task[Any]) -> None:
        """Close the connection that `task` uses, whose loop was closed without notice."""

    async def close(self) -> None:
        """Close the connection. No read may be under way."""


Kind = Literal["direct", "group", "added", "note", "flush", "mark"]
"""What is published: a message for the process; one to a group; one for members that somebody else added; a note;
the new epoch after a flush; a mark, see `subscriber`."""

Take = Callable[[Kind, str, Any], None]
"""Gets what is published: its kind, the group if it is of one, and the `Entry`, the `Note` or the bytes of it. None
stands for what cannot be read."""


class Question:
    """Something asked over a subscription, and what is called in the answer's place among the messages."""

    __slots__ = ("cancelled", "group", "on_answer", "on_refusal")

    def __init__(
        self, group: str | None, on_answer: Callable[[], None], on_refusal: Callable[[Exception], None]
    ) -> None:
        self.group = group
        """The group to be subscribed to; None if only the answer's place matters."""
        self.on_answer = on_answer
        self.on_refusal = on_refusal
        """Called in place of `on_answer` with the error."""
        self.cancelled = False
        """The answer is not wanted any more: neither is called."""

    def answer(self, refusal: Exception | None) -> None:
        """The answer is here."""
        if self.cancelled:
            return
        if refusal is None:
            self.on_answer()
        else:
            self.on_refusal(refusal)


class Subscription(Protocol):
    """One connection that hears what is published for this process. It belongs to one task of one loop."""

    groups: set[str]
    """The groups it is subscribed to, or is about to be."""
    take: Take

    async def open(self) -> None:
        """Connect. Raises `ReadingLost`."""

    async def subscribe(self, groups: Sequence[str]) -> None:
        """Subscribe to what is for the process, and to `groups`, while reading. Raises `ReadingLost`."""

    def unsubscribe(self, groups: Sequence[str]) -> None:
        """Hear of `groups` no more."""

    def ask(self, question: Question) -> None:
        """Send `question`."""

    def unanswered(self) -> list[Question]:
        """The questions without an answer, which are for another subscription from now on."""

    async def read(self) -> None:
        """Read one thing and pass it on. A cancellation changes nothing. Raises `ReadingLost`."""

    def abort(self, task: asyncio.Task[Any]) -> None:
        """Close the connection that `task` reads, whose loop was closed without notice."""

    async def close(self) -> None:
        """Close the connection."""


class Store(Protocol):
    """The servers of one layer, as one process uses them."""

    async def send(self, shard: Shard, channel: str, payload: bytes, capacity: int) -> Sent:
        """Store a message in the queue of a normal channel, or in the inbox of a process-specific one."""

    async def put_back(self, shard: Shard, channel: str, entry: Entry, left: float) -> None:
        """Return an entry of a normal channel, which lives for another `left` seconds, to the head of its queue."""

    def reader(self, shard: Shard, notes_of: str = "") -> Reader:
        """A new reader. It hands over the notes for the addressee `notes_of`, too."""

    async def publish(self, shard: Shard, channel: str, payload: bytes) -> int:
        """Publish a message for the process of `channel`. Returns how many connections heard it."""

    def subscription(self, shard: Shard, take: Take, on_idle: Callable[[], None]) -> Subscription:
        """A new subscription. It calls `on_idle` now and then."""

    async def mark(self, shard: Shard, mark: bytes) -> None:
        """Publish `mark` for this process, unless nobody can hear it."""

    async def group_add(
        self, shard: Shard, group: str, member: str, life: float, tell: str = "", how: str = "add"
    ) -> None:
        """Make `member` one of `group` for `life` seconds, and tell the process `tell`, whose channel it is.

        `how` is ``add``; ``restore``, only if it is missing; or ``raise``, only if it is missing or ends earlier.
        """

    async def group_discard(self, shard: Shard, group: str, member: str, tell: str = "") -> None:
        """End the membership, if there is one, and tell the process `tell`."""

    async def group_send(self, shard: Shard, group: str, payload: bytes) -> GroupSent:
        """Give a message to the members of `group` on `shard`."""

    async def renew(self, shard: Shard, addressee: str, life: float, was_known: bool) -> Renewal:
        """Let an addressee count as alive for `life` seconds. `was_known`: the server has been told of it before."""

    async def measure(self, shard: Shard) -> None:
        """Ask for the time."""

    async def flush(self, shard: Shard) -> None:
        """Forget every message and group of this prefix, move the epoch, and tell the processes that live."""

    async def close(self) -> None:
        """Close the running loop's sending connections, after the replies under way."""

    def abort(self) -> None:
        """Close everything, in every loop, from any thread. For a layer that is garbage."""
