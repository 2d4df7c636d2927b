# SPDX-License-Identifier: BSD-3-Clause
"""What is published on one shard for a process: its own messages, and those of its groups there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hybrid_layer.clock import monotonic
from hybrid_layer.envelope import MARK, RollCall, roll_call_in, without_excluded
from hybrid_layer.exceptions import Undecodable
from hybrid_layer.remote.delivery.answers import send_answer
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.doubts import Doubts
from hybrid_layer.remote.delivery.epoch import read_epoch
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.intake import Intake, accept_note
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.replies import Entry, Note
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Kind, Question, Store
from hybrid_layer.remote.delivery.subscribed_groups import SubscribedGroups
from hybrid_layer.remote.delivery.subscriber import Subscriber
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.supervision import Guard

_WHAT = "the subscriber"


class PubSubShard:
    """The subscription to one shard and the memberships of the process's channels in the groups there."""

    def __init__(self, context: Context, store: Store, shard: Shard, heartbeat: Heartbeat, outages: Outages) -> None:
        self._context = context
        self._store = store
        self._shard = shard
        self._subscribed = SubscribedGroups(lambda: shard.epoch.flushes_met)
        self._guard = Guard(_WHAT, context.statistics.count)
        self._accept = Intake(context, shard, _WHAT).accept
        self._accept_own = Intake(context, shard, _WHAT, context.is_own).accept
        self._doubts = Doubts(context, store, shard, self._guard)
        self.subscriber = Subscriber(
            context, store, shard, heartbeat, outages, self._subscribed, self._take, self._begin
        )
        self._adoptions: dict[tuple[str, str], Question] = {}
        """Memberships that another process began and whose subscription is not confirmed yet."""
        self._takes: dict[Kind, Callable[[str, Any], None]] = {
            "direct": self._take_direct,
            "group": self._take_for_group,
            "added": self._take_for_added,
            "note": self._take_note,
            "flush": self._take_flush,
            "mark": lambda _, mark: self.subscriber.marked(mark),
        }

    async def add(self, group: str, channel: str) -> None:
        """Make `channel`, which is the process's own, a member, or restart its `group_expiry`."""
        subscribed = self._subscribed
        if subscribed.renew(group, channel, self._deadline()):
            return
        subscribed.join_begins(group)
        try:
            # Even if the process is already subscribed to the group: the channel must get what is sent from now on, and
            # only the answer separates that from what was sent before.
            await self.subscriber.ask(group, lambda: subscribed.add(group, channel, self._deadline()))
        finally:
            subscribed.join_ended(group)

    async def discard(self, group: str, channel: str) -> None:
        """End the membership once what was sent before has arrived."""
        await self.subscriber.ask(None, lambda: self.remove(group, channel))

    def remove(self, group: str, channel: str) -> None:
        """End the membership at once, if there is one."""
        self._end_adoption(group, channel)
        self._subscribed.remove(group, channel)
        if group not in self._subscribed:
            self.subscriber.drop(group)

    def _deadline(self) -> float:
        return monotonic() + self._context.policy.group_expiry

    # What arrives

    def _begin(self, since: float) -> None:
        self._doubts.subscribed_since = since
        self._shard.epoch.await_no_more()

    def _take(self, kind: Kind, group: str, what: Any) -> None:
        with self._guard:  # an error may cost this message, but not the next one
            self._takes[kind](group, what)

    def _take_flush(self, _: str, text: bytes) -> None:
        if read_epoch(text) is None:
            self._context.undecodable(self._shard, "a flush's announcement")
        else:
            self._shard.epoch.announced(text)

    def _take_direct(self, _: str, entry: Entry | None) -> None:
        generation = self._accept_own(entry)
        if entry is not None and generation is not None and not self._is_flushed(entry):
            self._doubts.deliver(entry, entry.names, generation)

    def _is_flushed(self, entry: Entry) -> bool:
        """Without an epoch: what arrives before the announcement of a known flush was sent before it."""
        return not entry.epoch and self._shard.epoch.is_awaited()

    def _take_for_group(self, group: str, entry: Entry | None) -> None:
        generation = self._accept(entry)
        if entry is None or generation is None or self._is_flushed(entry):
            return
        channels: Sequence[str] = self._subscribed.members(group)
        if entry.payload.startswith(MARK):
            try:
                if roll_call := roll_call_in(entry.payload):
                    self._answer(group, roll_call, entry, channels)
                    return
                channels = without_excluded(channels, entry.payload)
            except Undecodable as error:
                self._context.undecodable(self._shard, f"a message, as {error},")
                return
        if channels:
            self._doubts.deliver(entry, channels, generation)
        elif group not in self._subscribed:
            self.subscriber.drop(group)

    def _answer(self, group: str, roll_call: RollCall, entry: Entry, channels: Sequence[str]) -> None:
        context, store, shard = self._context, self._store, self._shard
        if shard.clock.left(entry.stamp_ms) <= 0:
            return  # whoever has asked waits no longer
        for channel in channels if roll_call.ends else ():
            self.remove(group, channel)
        io_thread.current().submit(lambda: send_answer(context, store, shard, roll_call.reply_to, list(channels)))

    def _take_for_added(self, group: str, entry: Entry | None) -> None:
        generation = self._accept_own(entry)
        if entry is not None and generation is not None:
            # A channel that this process added, or adopted by the note, gets what is published to the group.
            others = [name for name in entry.names if not self._subscribed.is_member(group, name)]
            self._doubts.deliver(entry, others, generation)

    def _take_note(self, _: str, raw: Note | None) -> None:
        note = accept_note(self._context, self._shard, raw)
        if note is None:
            return
        if note.kind == "-":
            self.remove(note.group, note.member)
        elif note.kind == "+" and self._shard.epoch.admits(note.epoch):
            self._adopt(note)

    def _adopt(self, note: Note) -> None:
        """Take over a membership that another process began, since the server may lose it."""
        key = note.group, note.member
        deadline = monotonic() + self._shard.clock.left(note.stamp_ms)
        if key in self._adoptions or self._subscribed.renew(*key, deadline):
            return

        def confirmed() -> None:
            self._subscribed.add(*key, deadline)
            self._end_adoption(*key)

        self._subscribed.join_begins(note.group)
        self._adoptions[key] = Question(note.group, confirmed, lambda refusal: self._end_adoption(*key))
        self.subscriber.submit(self._adoptions[key])

    def _end_adoption(self, group: str, channel: str) -> None:
        adoption = self._adoptions.pop((group, channel), None)
        if adoption is not None:
            adoption.cancelled = True
            self._subscribed.join_ended(group)
