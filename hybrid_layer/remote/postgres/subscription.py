# SPDX-License-Identifier: BSD-3-Clause
"""Receives what is published on one shard for this process, by LISTEN.

Notifications arrive in the order of the commits, the same in every session. One that was committed before a call of
this session began arrives before the answer to the call. So an answer has its place among them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.store import Question, Take
from hybrid_layer.remote.postgres.connections import Connections
from hybrid_layer.remote.postgres.entries import fetched, published, reference
from hybrid_layer.remote.postgres.link import Link
from hybrid_layer.remote.postgres.names import Names, of_process
from hybrid_layer.remote.postgres.pipeline import Rows
from hybrid_layer.remote.postgres.statements import FETCH, SUBSCRIBE
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.remote.runtime.orphans import end_orphan
from hybrid_layer.timers import Timer

_AT_ONCE = 500
"""Groups in one call."""
_TURN = 32
"""Items to read before the event loop gets a turn: consumers must run before their buffers are full."""

Item = tuple[str, bytes] | Question | None
"""A notification with its channel; a question whose answer has arrived; None: a subscription is confirmed."""


class Subscription:
    """Implements `hybrid_layer.remote.delivery.store.Subscription`."""

    def __init__(
        self,
        connections: Connections,
        shard: int,
        names: Names,
        process: str,
        options: DeliveryOptions,
        take: Take,
        on_idle: Callable[[], None],
    ) -> None:
        self.take = take
        self.groups: set[str] = set()
        self._connections = connections
        self._shard = shard
        self._names = names
        self._number = names.number(process)
        self._block_time = options.block_time
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._is_subscribed = False
        self._groups_by_channel: dict[str, str] = {}
        self._asked: dict[Question, None] = {}
        """Questions whose answers have not arrived."""
        self._items: deque[Item] = deque()
        self._lost: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: Timer | None = None
        self._turn = _TURN
        self._confirmations = 0

    # What is asked

    async def open(self) -> None:
        link = self._link = await self._connections.open_link(self._shard)
        link.users.add(self)
        self._watch()

    async def subscribe(self, groups: Sequence[str]) -> None:
        new = [group for group in groups if group not in self.groups]
        self._listen([], not self._is_subscribed, self._confirm)
        for start in range(0, len(new), _AT_ONCE):
            self._listen(new[start : start + _AT_ONCE], False, self._confirm)
        while self._confirmations:
            await self.read()

    def _confirm(self, rows: Rows | None) -> None:
        if rows is not None:
            self._add(None)

    def _listen(self, groups: Sequence[str], is_first: bool, then: Callable[[Rows | None], None]) -> None:
        link, names = self._joined(), self._names
        channels = {names.group(group): group for group in groups}
        own = [of_process(self._number), names.epochs] if is_first else []
        self._is_subscribed = self._is_subscribed or is_first
        self._groups_by_channel.update(channels)
        self.groups.update(groups)
        if then == self._confirm:
            self._confirmations += 1
        process = self._number, is_first
        link.listen([*own, *channels], self._notified, self._connections.deadline(), process, then)

    def unsubscribe(self, groups: Sequence[str]) -> None:
        ended = [group for group in groups if group in self.groups]
        self.groups.difference_update(ended)
        names, link = self._names, self._link
        if link is None or self._lost is not None:
            return
        channels = [names.group(group) for group in ended]
        for channel in channels:
            self._groups_by_channel.pop(channel, None)
        if channels:
            link.unlisten(channels, self._notified, self._connections.deadline(), (self._number, False))

    def ask(self, question: Question) -> None:
        self._asked[question] = None
        if self._link is None or self._lost is not None:
            return  # the next subscription is asked

        def answered(rows: Rows | None) -> None:
            if rows is not None:
                self._add(question)

        group = question.group
        if group is None or group in self.groups:
            self._link.call(SUBSCRIBE, ["", "", None, False], self._connections.deadline(), then=answered)
        else:
            self._listen([group], False, answered)

    def unanswered(self) -> list[Question]:
        questions = list(self._asked)
        self._asked.clear()
        return questions

    # What arrives

    def _notified(self, channel: str, text: bytes) -> None:
        self._add((channel, text))

    def _add(self, item: Item) -> None:
        self._items.append(item)
        self._wake()

    def lost(self, error: RemoteUnavailable) -> None:
        """Called by the session when it breaks."""
        self._lost = str(error)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> None:
        self._turn -= 1
        if self._turn <= 0:
            self._turn = _TURN
            await asyncio.sleep(0)
        while not self._items:
            if self._lost is not None:
                raise ReadingLost(self._lost)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        item = self._items[0]
        what = None
        if isinstance(item, tuple):
            what = await self._message(*item)  # a cancellation leaves the item where it is
        self._items.popleft()
        if what is not None:
            self.take(*what)
        elif isinstance(item, Question):
            if self._asked.pop(item, item) is None:
                item.answer(None)
        else:
            self._confirmations -= 1

    async def _message(self, channel: str, text: bytes) -> tuple[Any, str, Any]:
        group = self._groups_by_channel.get(channel, "")
        found = reference(text)
        if found is None:
            return published(text, group)
        try:
            ((head, payload),) = await self._joined().call(FETCH, [found], self._connections.deadline())
        except RemoteUnavailable as error:
            raise ReadingLost(str(error)) from None
        if head is None:  # it has expired
            return ("group" if group else "direct"), group, None
        return fetched(head.encode(), payload, group)

    def _watch(self) -> None:
        self._timer = Timer(self._loop, monotonic() + self._block_time, self._check)

    def _check(self) -> None:
        """Drop what is not wanted, and make sure that the server still answers."""
        self._on_idle()
        if self._link is not None and self._lost is None:
            self._link.call(SUBSCRIBE, ["", "", None, False], monotonic() + min(2.0, self._connections.timeout))
            self._watch()

    # The end

    def abort(self, task: asyncio.Task[Any]) -> None:
        self._link = None
        end_orphan(task)

    async def close(self) -> None:
        link, self._link = self._link, None
        if self._timer is not None:
            self._timer.cancel()
        if link is None:
            return
        link.users.discard(self)
        if self._lost is None:
            names = self._names
            channels = [names.group(group) for group in self.groups]
            if self._is_subscribed:
                channels += [of_process(self._number), names.epochs]
            process = self._number, self._is_subscribed
            link.unlisten(channels, self._notified, self._connections.deadline(), process)

    def _joined(self) -> Link:
        if self._link is None or self._lost is not None:
            raise ReadingLost(self._lost or "it is not connected")
        return self._link
