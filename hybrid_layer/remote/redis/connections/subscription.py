# SPDX-License-Identifier: BSD-3-Clause
"""Subscriptions, and the connections that they share: see `subscribed_connection`.

Everything else relies on the server's order, which a connection keeps for each of its subscriptions: what was published
before a command was executed arrives before its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.store import Question, Take
from hybrid_layer.remote.redis.connections.members import Item, Lost, Member
from hybrid_layer.remote.redis.connections.subscribed_connection import AT_ONCE, SubscribedConnection
from hybrid_layer.remote.redis.server.errors import cause_of, is_not_now, unwrapped
from hybrid_layer.remote.redis.server.host import Host, open_within, unavailable
from hybrid_layer.remote.redis.wire.published import Published, Verbs
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.timers import time_limit


class Subscriptions:
    """Makes the subscriptions of one process and layer, and finds a connection for each. Any loop may use it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._connections: list[SubscribedConnection] = []
        """Those that another subscription may share."""

    def new(self, host: Host, published: Published, take: Take, on_idle: Callable[[], None]) -> Subscription:
        """A new subscription, which is not open yet."""
        return Subscription(host, published, take, on_idle, self._context.options.timeout, self._connection_to)

    def _connection_to(self, endpoint: Host, verbs: Verbs) -> SubscribedConnection:
        """The running loop's connection to a server, which may be new."""
        loop = asyncio.get_running_loop()
        for known in list(self._connections):  # other threads may add some
            if known.endpoint is endpoint and known.loop is loop:
                return known
        made = SubscribedConnection(self._context, endpoint, verbs, self._ended)
        self._connections.append(made)
        return made

    def _ended(self, connection: SubscribedConnection) -> None:
        with contextlib.suppress(ValueError):
            self._connections.remove(connection)


class Subscription(Member):
    """Implements `hybrid_layer.remote.delivery.store.Subscription`."""

    def __init__(
        self,
        host: Host,
        published: Published,
        take: Take,
        on_idle: Callable[[], None],
        timeout: float,
        connection_to: Callable[[Host, Verbs], SubscribedConnection],
    ) -> None:
        super().__init__(on_idle)
        self._host = host
        self._published = published
        self._open_within = open_within(host, timeout)
        self._connection_to = connection_to
        self._connection: SubscribedConnection | None = None
        self.take = take
        self.groups: set[str] = set()
        self._awaited: deque[Question | None] = deque()
        """The questions behind the next answers; None where nobody waits."""

    async def open(self) -> None:
        try:
            async with time_limit(self._open_within):
                endpoint = await self._host.endpoint()
                self._connection = self._connection_to(endpoint, self._published.verbs)
                self._connection.join(self)
                await self._connection.open()
        except (RedisError, OSError, TimeoutError) as error:
            self._host.invalidate(error)
            raise ReadingLost(str(error) or f"no connection within {self._open_within} s") from None

    async def subscribe(self, groups: Sequence[str]) -> None:
        self.groups.update(groups)
        names = [*self._published.own_names, *map(self._published.name_of, groups)]
        for start in range(0, len(names), AT_ONCE):
            batch = names[start : start + AT_ONCE]
            self._awaited.extend([None] * len(batch))
            self._joined().subscribe(self, batch)
            while self._awaited:
                await self.read()

    def ask(self, question: Question) -> None:
        group = question.group
        self._awaited.append(question)
        if group is None:
            self._joined().ping(self, "question")
        else:
            self.groups.add(group)
            self._joined().subscribe(self, [self._published.name_of(group)])

    def unsubscribe(self, groups: Sequence[str]) -> None:
        self.groups.difference_update(groups)
        self._joined().unsubscribe(list(map(self._published.name_of, groups)))

    def unanswered(self) -> list[Question]:
        questions = [question for question in self._awaited if question is not None]
        self._awaited.clear()
        return questions

    def read(self) -> Coroutine[Any, Any, None]:
        return self._joined().read(self)

    def take_message(self, channel: bytes, text: bytes) -> None:
        self.take(*self._published.read(channel, text))

    def take_item(self, item: Item) -> None:
        if isinstance(item, list):
            self.take_message(item[1], item[2])
        elif isinstance(item, Lost):
            self._host.invalidate(item.error)
            raise ReadingLost(item.cause)
        else:
            self._take_answer(item)

    def _take_answer(self, refusal: ResponseError | None) -> None:
        question = self._awaited[0] if self._awaited else None
        if refusal is not None:
            in_cluster = self._published.verbs.are_sharded
            if question is None or (in_cluster and is_not_now(unwrapped(refusal), True)):
                # The process must subscribe elsewhere, or cannot at all.
                self._host.invalidate(refusal)
                raise ReadingLost(cause_of(refusal, in_cluster))
        if self._awaited:
            self._awaited.popleft()
        if question is not None:
            question.answer(None if refusal is None else unavailable(self._host, refusal))

    async def close(self) -> None:
        if self._connection is not None:
            names = [*self._published.own_names, *map(self._published.name_of, self.groups)]
            await self._connection.leave(self, names)

    def abort(self, task: asyncio.Task[Any]) -> None:
        if self._connection is not None:
            self._connection.abort(task)

    def _joined(self) -> SubscribedConnection:
        if self._connection is None:
            raise ReadingLost("it is not connected")
        return self._connection
