# SPDX-License-Identifier: BSD-3-Clause
"""What a kind of servers can do for the layer. Nothing else differs between kinds.

A verb is one call to one server. It takes the server's clock and the epoch from the answer and notes them in the
`Shard`. Every verb raises `RemoteUnavailable` within the timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from hybrid_layer.remote.delivery.epoch import Epoch
from hybrid_layer.remote.delivery.replies import (
    Batch,
    Entry,
    GroupSent,
    MachineRenewal,
    QueueState,
    Registration,
    Renewal,
    Report,
    Sent,
    SeveralSent,
    StreamItem,
)
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.transport import Excluded, Position, View


class StreamReader(Protocol):
    """One connection that waits for a machine's entries on one shard. It removes nothing, so it may be abandoned."""

    async def connect(self) -> bool:
        """Open the connection, unless it is open. Returns whether it is a new one. Raises `ReadingLost`."""

    async def read(self, after: Position, count: int) -> Sequence[StreamItem]:
        """Up to `count` entries with ids above `after`; none if there is none within the block time.

        Raises `ReadingLost`.
        """

    async def pause(self, cause: ReadingLost) -> None:
        """Wait before the next try, longer each time."""

    async def close(self) -> None:
        """Close the connection. A read under way, by another task, must have ended."""


class Reader(Protocol):
    """One connection that waits for messages on one shard. It belongs to the task that calls `read`.

    A read may remove entries from the server, so no read is abandoned before its answer has arrived. A cancellation
    interrupts the read and sets `cancelled`. A store may also read by position and remove nothing.
    """

    cancelled: bool
    """A cancellation arrived during a read. The caller uses what was read, then stops."""

    async def connect(self) -> None:
        """Open the connection, unless it is open. Raises `ReadingLost`."""

    async def read(self, sources: Sequence[str], count: int) -> Batch | None:
        """Up to `count` entries from the first of `sources` that has any; None if none has any within the block time.

        A source is a normal channel or an inbox. Raises `ReadingLost`; the next call opens another connection.
        """

    async def pause(self, cause: ReadingLost) -> None:
        """Wait before the next try, longer each time."""

    async def learn_time(self, stamps_ms: Iterable[int]) -> None:
        """Measure the server's clock again if, as far as known, one of `stamps_ms`, just read, is past.

        The clock may have been set meanwhile. Without an answer, the known time stands.
        """

    async def learn_epoch(self, epoch: Epoch) -> None:
        """Ask the server for its epoch."""

    def interrupt(self) -> None:
        """End the read under way, or the next one, from any thread."""

    def abort(self, task: asyncio.Task[Any]) -> None:
        """End `task`, which reads, even if messages are lost: its loop is about to be closed, or was without notice."""

    async def close(self) -> None:
        """Close the connection. No read may be under way."""


Kind = Literal["direct", "group", "added", "note", "flush", "mark"]
"""What is published: a message to the process; one to a group; one to members that another process added; a note; the
new epoch after a flush; a mark, see `subscriber`."""

Take = Callable[[Kind, str, Any], None]
"""Receives what was published: the kind, the group or "", and an `Entry`, a `Note` or bytes. None stands for what
cannot be read."""


class Question:
    """A question over a subscription. Its callback runs when the answer arrives, in its place among the messages."""

    __slots__ = ("cancelled", "group", "on_answer", "on_refusal")

    def __init__(
        self, group: str | None, on_answer: Callable[[], None], on_refusal: Callable[[Exception], None]
    ) -> None:
        self.group = group
        """The group to subscribe to; None if only the answer's place matters."""
        self.on_answer = on_answer
        self.on_refusal = on_refusal
        """Called with the error, in place of `on_answer`."""
        self.cancelled = False
        """The answer is no longer wanted: neither callback is called."""

    def answer(self, refusal: Exception | None) -> None:
        """Call the callback: the answer has arrived."""
        if self.cancelled:
            return
        if refusal is None:
            self.on_answer()
        else:
            self.on_refusal(refusal)


class Subscription(Protocol):
    """Receives what is published on one shard for this process. It belongs to one task of one loop.

    Subscriptions may share a connection. Each takes its messages and answers in the server's order.
    """

    groups: set[str]
    """The groups that it is or is about to be subscribed to."""
    take: Take

    async def open(self) -> None:
        """Connect. Raises `ReadingLost`."""

    async def subscribe(self, groups: Sequence[str]) -> None:
        """Subscribe to the process's own messages and to `groups`, and read meanwhile. Raises `ReadingLost`."""

    def unsubscribe(self, groups: Sequence[str]) -> None:
        """End the subscriptions to `groups`."""

    def ask(self, question: Question) -> None:
        """Send `question`."""

    def unanswered(self) -> list[Question]:
        """Give up the questions without an answer and return them, for another subscription."""

    async def read(self) -> None:
        """Read one item and pass it on. A cancellation loses nothing. Raises `ReadingLost`."""

    def abort(self, task: asyncio.Task[Any]) -> None:
        """End `task`, which reads, and close the connection. Their loop was closed without notice."""

    async def close(self) -> None:
        """End the subscription, and close the connection if nobody shares it."""


class Store(Protocol):
    """The servers of one layer, as one process uses them."""

    async def send(
        self, shard: Shard, channel: str, payload: bytes, capacity: int, expiry: float | None = None
    ) -> Sent:
        """Store a message in the queue of a normal channel, or in the inbox of a process-specific one.

        Here and below, a message expires in `expiry` seconds; None: after those of the policy.
        """

    async def send_multiple(self, shard: Shard, channel: str, payloads: Sequence[bytes], capacity: int) -> SeveralSent:
        """As `send`, for several in one step: in order, the first ones that there is room for."""

    async def put_back(self, shard: Shard, channel: str, entry: Entry, left: float) -> None:
        """Return an entry of a normal channel to the head of its queue. It expires in `left` seconds."""

    def reader(self, shard: Shard, notes_of: str = "") -> Reader:
        """A new reader. It also returns the notes for the addressee `notes_of`."""

    async def publish(self, shard: Shard, channel: str, payload: bytes, expiry: float | None = None) -> int:
        """Publish a message for the process of `channel`. Returns how many connections received it."""

    def subscription(self, shard: Shard, take: Take, on_idle: Callable[[], None]) -> Subscription:
        """A new subscription. It calls `on_idle` regularly."""

    async def mark(self, shard: Shard, mark: bytes) -> None:
        """Publish `mark` for this process, unless no connection can receive it."""

    async def group_add(
        self, shard: Shard, group: str, member: str, life: float, tell: str = "", how: str = "add"
    ) -> bool:
        """Make `member` a member of `group` for `life` seconds, and notify the process `tell`, which owns the channel.

        False: that process is dead, and nothing was done.
        `how` is ``add``; ``restore``: only if it is missing; or ``raise``: only if it is missing or ends earlier.
        """

    async def group_discard(self, shard: Shard, group: str, member: str, tell: str = "") -> None:
        """End the membership, if there is one, and notify the process `tell`."""

    async def group_send(self, shard: Shard, group: str, payload: bytes, skip: str = "") -> GroupSent:
        """Give a message to the members of `group`, which is on `shard`; not to those on the machine `skip`."""

    async def group_send_multiple(
        self, shard: Shard, group: str, payloads: Sequence[bytes], skip: str, excluded: Excluded
    ) -> GroupSent:
        """As `group_send`, for several in one step, in order, without `excluded`. The reply adds them up."""

    async def group_channels(self, shard: Shard, group: str) -> list[str]:
        """The members of `group` that the server knows by name, and "@MACHINE!" for each machine that has members.

        Without those whose process is dead.
        """

    async def ask(self, shard: Shard, group: str, payload: bytes, skip: str, expiry: float) -> int:
        """Give a message to those that know members of `group` which the server does not know, and to no member.

        These are the processes that are subscribed to the group, and the machines, but for `skip`. Returns how many.
        """

    async def register(self, shard: Shard, group: str, machine: str, life: float, forgotten: int) -> Registration:
        """Note that `group` has members on `machine`, for `life` seconds, or longer if it was registered for longer.

        The new registration's T is above the old one's, and above `forgotten`.
        """

    async def forget(self, shard: Shard, group: str, machine: str, t: int) -> None:
        """Remove the registration of `group` by `machine`, if it is still `t`."""

    async def renew_machine(
        self, shard: Shard, machine: str, life: float, view: View, registration: int
    ) -> MachineRenewal:
        """Let a machine count as alive for `life` seconds, and keep its stream's key.

        If the server has another registration than `view`, or another run id, it takes `registration`, a random
        number, in its place.
        """

    def stream(self, shard: Shard, machine: str) -> StreamReader:
        """A new reader of a machine's stream."""

    async def trim(self, shard: Shard, machine: str, position: Position) -> None:
        """Remove the entries of a machine's stream before `position`, which are taken in."""

    async def renew(self, shard: Shard, addressee: str, life: float, report: Report | None = None) -> Renewal:
        """Let an addressee count as alive for `life` seconds, and take in a report of what was counted."""

    async def counters(self, shard: Shard, report: Report | None) -> Mapping[str, int]:
        """Take in a report, and return all that processes have reported here. What is kept may end after two days."""

    async def queue_state(self, shard: Shard, channel: str) -> QueueState:
        """What is in the queue of a normal channel, or in the inbox of a process-specific one."""

    async def measure(self, shard: Shard) -> None:
        """Measure the server's clock."""

    async def flush(self, shard: Shard) -> None:
        """Delete every message and group of this prefix, advance the epoch, and notify the live processes."""

    async def close(self) -> None:
        """Close the running loop's sending connections, after the replies under way."""

    def abort(self) -> None:
        """Close everything, in every loop, from any thread, for a layer that is garbage."""
