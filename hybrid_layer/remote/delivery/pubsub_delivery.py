"""Delivery by pub/sub: each message is published, and reaches the processes that are subscribed at that moment.

A process subscribes to its own messages and to its groups on one shard, that of its inboxes. A group's messages are
published on every shard. So a process receives what one sender sends, directly and to groups, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.doubts import Doubts
from hybrid_layer.remote.delivery.epoch import read_epoch
from hybrid_layer.remote.delivery.groups import Groups
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.intake import Intake, accept_note
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.store import Entry, Kind, Note, Question, Store
from hybrid_layer.remote.delivery.subscribed_groups import SubscribedGroups
from hybrid_layer.remote.delivery.subscriber import Subscriber
from hybrid_layer.supervision import Guard

_WHAT = "the subscriber"


class PubSubDelivery:
    """Implements `hybrid_layer.remote.delivery.delivery.Delivery`."""

    def __init__(self, context: Context, store: Store, heartbeat: Heartbeat, groups: Groups, outages: Outages) -> None:
        self._context = context
        self._store = store
        self._heartbeat = heartbeat
        self._groups = groups
        self._subscribed = SubscribedGroups(lambda: context.home.epoch.generation)
        self._guard = Guard(_WHAT, context.statistics.count)
        self._doubts = Doubts(context, store, self._guard)
        self._subscriber = Subscriber(context, store, heartbeat, outages, self._subscribed, self._take, self._begin)
        self._adoptions: dict[tuple[str, str], Question] = {}
        """Memberships that another process began and whose subscription is not confirmed yet."""
        self.is_open = False
        self._takes: dict[Kind, Callable[[str, Any], None]] = {
            "direct": self._take_direct,
            "group": self._take_for_group,
            "added": self._take_for_added,
            "note": self._take_note,
            "flush": self._take_flush,
            "mark": lambda _, mark: self._subscriber.marked(mark),
        }

    async def open(self) -> None:
        home = self._context.home
        self._accept = Intake(self._context, home, _WHAT).accept
        self._accept_own = Intake(self._context, home, _WHAT, self._context.is_own).accept
        await self._subscriber.open()
        self._heartbeat.settle()
        self.is_open = True

    async def close(self) -> None:
        await self._subscriber.close()

    def abort(self) -> None:
        self._subscriber.abort()

    def inbox_added(self) -> None:
        """Do nothing: one subscription serves all inboxes of the process."""

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        self._subscriber.poll(loop)

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing: messages are received whether a consumer waits or not."""

    async def send(self, channel: str, payload: bytes) -> None:
        context = self._context
        receivers = await self._store.publish(context.shard_of(channel), channel, payload)
        context.statistics.count("sent")
        if not receivers:
            context.statistics.count("dead")

    async def group_add(self, group: str, channel: str) -> None:
        subscribed = self._subscribed
        if not self._context.is_own(channel):
            await self._groups.add(group, channel)
            return
        if subscribed.renew(group, channel, self._deadline()):
            return
        subscribed.join_begins(group)
        try:
            # Even if the process is already subscribed to the group: the channel must get what is sent from now on, and
            # only the answer separates that from what was sent before.
            await self._subscriber.ask(group, lambda: subscribed.add(group, channel, self._deadline()))
        finally:
            subscribed.join_ended(group)

    async def group_discard(self, group: str, channel: str) -> None:
        if not self._context.is_own(channel):
            await self._groups.discard(group, channel)
            return
        try:
            # Another process may also have added it.
            await self._groups.discard(group, channel)
            # What was sent before may still arrive.
            await self._subscriber.ask(None, lambda: self._remove(group, channel))
        except BaseException:
            self._remove(group, channel)
            raise

    def _deadline(self) -> float:
        return monotonic() + self._context.policy.group_expiry

    def _remove(self, group: str, channel: str) -> None:
        self._end_adoption(group, channel)
        self._subscribed.remove(group, channel)
        if group not in self._subscribed:
            self._subscriber.drop(group)

    # What arrives

    def _begin(self, since: float) -> None:
        self._doubts.subscribed_since = since
        self._context.home.epoch.await_no_more()

    def _take(self, kind: Kind, group: str, what: Any) -> None:
        with self._guard:  # an error may cost this message, but not the next one
            self._takes[kind](group, what)

    def _take_flush(self, _: str, text: bytes) -> None:
        context = self._context
        if read_epoch(text) is None:
            context.undecodable(context.home, "a flush's announcement")
        elif context.home.epoch.announced(text):
            context.inbox.clear()  # even if it was known: messages received since may be older

    def _take_direct(self, _: str, entry: Entry | None) -> None:
        generation = self._accept_own(entry)
        # Without an epoch: what arrives before the announcement of a known flush was sent before it.
        if entry is not None and generation is not None and (entry.epoch or not self._context.home.epoch.is_awaited()):
            self._doubts.deliver(entry, entry.names, generation)

    def _take_for_group(self, group: str, entry: Entry | None) -> None:
        generation = self._accept(entry)
        if entry is None or generation is None:
            return
        channels = self._subscribed.members(group)
        if channels:
            self._doubts.deliver(entry, channels, generation)
        elif group not in self._subscribed:
            self._subscriber.drop(group)

    def _take_for_added(self, group: str, entry: Entry | None) -> None:
        generation = self._accept_own(entry)
        if entry is not None and generation is not None:
            # A channel that this process added, or adopted by the note, gets what is published to the group.
            others = [name for name in entry.names if not self._subscribed.is_member(group, name)]
            self._doubts.deliver(entry, others, generation)

    def _take_note(self, _: str, raw: Note | None) -> None:
        home = self._context.home
        note = accept_note(self._context, home, raw)
        if note is None:
            return
        if note.kind == "-":
            self._remove(note.group, note.member)
        elif note.kind == "+" and home.epoch.admits(note.epoch):
            self._adopt(note)

    def _adopt(self, note: Note) -> None:
        """Take over a membership that another process began, since the server may lose it."""
        key = note.group, note.member
        deadline = monotonic() + self._context.home.clock.left(note.stamp_ms)
        if key in self._adoptions or self._subscribed.renew(*key, deadline):
            return

        def confirmed() -> None:
            self._subscribed.add(*key, deadline)
            self._end_adoption(*key)

        self._subscribed.join_begins(note.group)
        self._adoptions[key] = Question(note.group, confirmed, lambda refusal: self._end_adoption(*key))
        self._subscriber.submit(self._adoptions[key])

    def _end_adoption(self, group: str, channel: str) -> None:
        adoption = self._adoptions.pop((group, channel), None)
        if adoption is not None:
            adoption.cancelled = True
            self._subscribed.join_ended(group)
