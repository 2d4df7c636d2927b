"""Mail by pub/sub: each message is published, and heard by the processes that listen at that moment.

A process listens for its own channel and for its groups on one server, that of its inbox; a group's messages are
published on every server. So what one sender sends, directly and to groups, comes in its order.

What comes over the channel of a process: ``1|...``, an entry; ``g|GROUP|1|...``, an entry for members that somebody
else added to a group; ``n|NOTE``, what somebody else did to a membership (``scripts/include/notes.lua``); ``m|MARK``,
see `listener`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_layer.clock import STAMPS_FOR, boottime, monotonic, seconds
from hybrid_layer.names import process_of
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.groups import Members
from hybrid_layer.remote.delivery.heartbeat import Keeper
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.subscribed_groups import OwnGroups
from hybrid_layer.remote.delivery.subscriber import Listener
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.connections.subscription import Question, verbs_of
from hybrid_layer.remote.redis.entries import Entry, Note, published_entry, read_epoch
from hybrid_layer.remote.redis.server import replies
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.supervision import Guard


@dataclass(frozen=True, slots=True)
class _Doubted:
    """A message that waits until it is known whether it has expired."""

    entry: Entry
    channels: Sequence[str]
    generation: int
    fresh_until: float
    """On `boottime`: before that it cannot have expired."""


class PubSubMail:
    """Implements `hybrid_layer.remote.delivery.delivery.Mail`."""

    def __init__(
        self, context: Context, connections: Connections, keeper: Keeper, members: Members, outages: Outages
    ) -> None:
        self._context = context
        self._connections = connections
        self._keeper = keeper
        self._members = members
        self._groups = OwnGroups(lambda: context.home.epoch.generation)
        self._listener = Listener(context, connections, keeper, outages, self)
        self._guard = Guard("the listener of pub/sub", context.statistics.count)
        self._group_start = b""
        self._epoch_name = b""
        self._listens_since = -math.inf
        """When the connection that delivers began, on `boottime`."""
        self._lock = threading.Lock()
        self._doubted: deque[_Doubted] = deque()
        self._adoptions: dict[tuple[str, str], Question] = {}
        """Memberships that somebody else began and that are not confirmed yet."""
        self.is_open = False

    async def open(self) -> None:
        context = self._context
        self._group_start = context.home.keys.group("").encode()
        self._epoch_name = context.home.keys.epoch.encode()
        await self._listener.open()
        self._keeper.settle()
        self.is_open = True

    async def stop(self) -> None:
        await self._listener.stop()

    def dispose(self) -> None:
        self._listener.dispose()

    def part_added(self) -> None:
        """Nothing: all parts of the process share its channel."""

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        self._listener.ensure(loop)

    def relax(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing: whoever waits or not, messages are taken in."""

    async def send(self, channel: str, payload: bytes) -> None:
        context = self._context
        shard = context.shard_of(channel)
        # Most go without a script, which costs the server as much again as all else. Then the stamp is made here, and a
        # flush is told from its place among the messages. Not in a cluster: a node that was replaced publishes, too,
        # but to nobody, where it refuses a script.
        stamp = None if shard.host.tag else shard.clock.stamp(context.expiry_ms)
        key = shard.keys.process(process_of(channel))
        if stamp is not None:
            entry = published_entry(stamp, channel, payload)
            heard = await self._connections.run(shard.number, ("PUBLISH", key, entry), replies.is_number)
        else:
            asked = boottime()
            command = scripts.PUBLISH.command([key, shard.keys.epoch], payload, channel, context.expiry_ms)
            heard, epoch, *now = await self._connections.run(shard.number, command, replies.is_published)
            shard.epoch.meet(epoch)
            shard.clock.measured(seconds(now), asked)
            shard.clock.may_stamp(asked)
        context.statistics.count("sent")
        if not heard:
            context.statistics.count("dead")

    async def group_add(self, group: str, channel: str) -> None:
        context, groups = self._context, self._groups
        if not context.is_own(channel):
            await self._members.add(group, channel)
            return
        if groups.renew(group, channel, self._deadline()):
            return
        groups.join_begins(group)
        try:
            # Also where the process listens for the group already: the channel is to get what is sent from now on, and
            # only the answer tells that from what was sent before.
            await self._listener.ask(self._subscribe_to(group), lambda: groups.add(group, channel, self._deadline()))
        finally:
            groups.join_ended(group)

    async def group_discard(self, group: str, channel: str) -> None:
        if not self._context.is_own(channel):
            await self._members.discard(group, channel)
            return
        try:
            # Somebody else may have added it too.
            await self._members.discard(group, channel)
            # What was sent before is still to come.
            await self._listener.ask(("PING", "discard"), lambda: self._remove(group, channel))
        except BaseException:
            self._remove(group, channel)
            raise

    def _subscribe_to(self, group: str) -> tuple[str, str]:
        home = self._context.home
        return verbs_of(home.host).subscribe, home.keys.group(group)

    def _deadline(self) -> float:
        return monotonic() + self._context.policy.group_expiry

    def _remove(self, group: str, channel: str) -> None:
        self._end_adoption(group, channel)
        self._groups.remove(group, channel)
        if group not in self._groups:
            self._listener.drop(self._context.home.keys.group(group))

    # What comes

    def begins(self, since: float) -> None:
        """See `listening.Audience`."""
        self._listens_since = since
        self._context.home.epoch.await_no_more()

    def names(self) -> list[str]:
        """See `listening.Audience`."""
        context = self._context
        keys = context.home.keys
        return [keys.process(context.name), keys.epoch, *map(keys.group, self._groups.all())]

    def wants(self, name: str) -> bool:
        """See `listening.Audience`."""
        start = self._context.home.keys.group("")
        return not name.startswith(start) or name[len(start) :] in self._groups

    def take(self, channel: bytes, text: bytes) -> None:
        """See `listening.Audience`."""
        with self._guard:  # this message may be lost, the next one need not be
            self._take_any(channel, text)

    def _take_any(self, channel: bytes, text: bytes) -> None:
        if channel.startswith(self._group_start):
            self._take_for_group(channel[len(self._group_start) :].decode("ascii", "replace"), text)
        elif channel == self._epoch_name:
            if read_epoch(text) is None:
                self._context.undecodable(self._context.home, "a flush's announcement")
            elif self._context.home.epoch.heard(text):
                self._context.inbox.clear()  # also if it was known before: what came since may be older
        elif text.startswith(b"g|"):
            self._take_for_added(text)
        elif text.startswith(b"n|"):
            self._take_note(text[2:])
        elif text.startswith(b"m|"):
            self._listener.marked(text)
        else:
            self._take_direct(text)

    def _take_direct(self, text: bytes) -> None:
        epoch = self._context.home.epoch
        generation = epoch.generation  # before it is asked for flushes: one that is learnt of later drops this message
        entry = self._context.accept_own(text)
        if entry is None:
            return
        if entry.epoch:
            self._deliver(entry, entry.names, epoch.generation)
        elif not epoch.is_awaited():
            self._deliver(entry, entry.names, generation)

    def _take_for_group(self, group: str, text: bytes) -> None:
        entry = self._context.accept(self._context.home, text)
        if entry is None:
            return
        channels = self._groups.members(group)
        if channels:
            self._deliver(entry, channels, self._context.home.epoch.generation)
        elif group not in self._groups:
            self._listener.drop(self._context.home.keys.group(group))

    def _take_for_added(self, text: bytes) -> None:
        fields = text.split(b"|", 2)
        entry = self._context.accept_own(fields[-1])
        if entry is not None:
            group = fields[1].decode("ascii", "replace")
            # Who is a member of its own accord, or has become one by the note, gets what is published to the group.
            others = [name for name in entry.names if not self._groups.is_member(group, name)]
            self._deliver(entry, others, self._context.home.epoch.generation)

    def _deliver(self, entry: Entry, channels: Sequence[str], generation: int) -> None:
        left = self._context.home.clock.left(entry.stamp_ms)
        if left <= 0 or self._doubted:
            self._doubt(_Doubted(entry, channels, generation, self._fresh_until(entry)))
        else:
            self._context.inbox.deliver(channels, entry.payload, monotonic() + left, generation)

    def _fresh_until(self, entry: Entry) -> float:
        """Until when what just came cannot have expired, whatever its stamp says.

        Its sender may go by a clock that was set before this process could see it, but not for long; and what is heard
        on a connection was sent after that began.
        """
        policy, age = self._context.policy, boottime() - self._listens_since
        if entry.epoch or age >= min(STAMPS_FOR, policy.expiry):
            return -math.inf  # stamped by the server's clock, or by what was learnt of it since
        return self._listens_since + policy.expiry

    def _doubt(self, doubted: _Doubted) -> None:
        """It looks expired. But the server's clock may have been set: that is asked first, and what follows waits."""
        context = self._context
        with self._lock:
            self._doubted.append(doubted)
            if len(self._doubted) > 1:
                return
        asked, command = boottime(), ("TIME",)
        answer = io_thread.current().submit(
            lambda: self._connections.run(context.home.number, command, replies.is_time)
        )
        answer.add_done_callback(lambda answer: self._settle_doubts(answer, asked))

    def _settle_doubts(self, answer: concurrent.futures.Future[Any], asked: float) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self._context.home.clock.measured(seconds(answer.result()), asked)
        with self._lock:
            while self._doubted:
                with self._guard:
                    self._settle(self._doubted[0])
                self._doubted.popleft()  # only now, or what comes next would overtake it

    def _settle(self, doubted: _Doubted) -> None:
        context, entry = self._context, doubted.entry
        left = context.home.clock.left(entry.stamp_ms)
        if left <= 0:
            left = doubted.fresh_until - boottime()
        if left <= 0:
            context.statistics.count("expired", len(doubted.channels))
        else:
            context.inbox.deliver(doubted.channels, entry.payload, monotonic() + left, doubted.generation)

    def _take_note(self, text: bytes) -> None:
        home = self._context.home
        note = self._context.accept_note(home, text)
        if note is None:
            return
        if note.kind == "-":
            self._remove(note.group, note.member)
        elif note.kind == "+" and home.epoch.admits(note.epoch):
            self._adopt(note)

    def _adopt(self, note: Note) -> None:
        """Keep a membership that somebody else began: the server forgets it with its data."""
        key = note.group, note.member
        deadline = monotonic() + self._context.home.clock.left(note.stamp_ms)
        if key in self._adoptions or self._groups.renew(note.group, note.member, deadline):
            return

        def confirmed() -> None:
            self._groups.add(note.group, note.member, deadline)
            self._end_adoption(note.group, note.member)

        self._groups.join_begins(note.group)
        self._adoptions[key] = Question(
            self._subscribe_to(note.group),
            confirmed,
            lambda refusal: self._end_adoption(note.group, note.member),
        )
        self._listener.put(self._adoptions[key])

    def _end_adoption(self, group: str, channel: str) -> None:
        adoption = self._adoptions.pop((group, channel), None)
        if adoption is not None:
            adoption.cancelled = True
            self._groups.join_ended(group)
