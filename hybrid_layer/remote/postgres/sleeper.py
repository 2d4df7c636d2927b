# SPDX-License-Identifier: BSD-3-Clause
"""What readers have in common: a session, looks that are never abandoned, and sleep until a bell rings.

A reader that finds nothing sleeps: its session holds a lock for each queue, by which a sender sees that it has to ring,
with a notification. A session does not see its own locks, so a sender on the same session says so to the reader itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from hybrid_layer.clock import boottime, monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.postgres.connections import Connections
from hybrid_layer.remote.postgres.entries import Row
from hybrid_layer.remote.postgres.link import Link
from hybrid_layer.remote.postgres.names import Names, bell
from hybrid_layer.remote.postgres.pipeline import Rows
from hybrid_layer.remote.postgres.statements import AWAKE, MEASURE, Argument, Statement
from hybrid_layer.remote.runtime.backoff import Backoff, ReadingLost
from hybrid_layer.timers import Timer

_MARGIN = 2.0
"""Seconds until the answer to a look is given up."""
_MOST_BELLS = 100
"""Queues to listen for at once, beyond those that are read."""


class Sleeper:
    """One reader of one shard. It belongs to one task."""

    def __init__(self, connections: Connections, shard: Shard, names: Names, options: DeliveryOptions) -> None:
        self._connections = connections
        self._shard = shard
        self._names = names
        self._block_time = options.block_time
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(shard.label)
        self._link: Link | None = None
        self._listening: set[int] = set()
        """The numbers of the queues whose bells this session hears."""
        self._asleep: set[int] = set()
        """Those whose lock it holds: senders ring."""
        self._news = asyncio.Event()
        self._rung = False
        """A bell has rung since the last look was sent."""
        self._is_empty = False
        """All queues of the last look are empty, unless a bell has rung since."""
        self._answer: Rows | None = None
        self._lost: RemoteUnavailable | None = None
        self._looks = False
        self._look_under_way: object = None
        self._asked: float | None = None
        """Since when it sleeps, on `hybrid_layer.clock`."""

    async def _open(self) -> bool:
        """Take a session, unless there is one. Returns whether it is a new one. Raises `ReadingLost`."""
        if self._link is not None:
            return False
        link = await self._connections.open_link(self._shard.number)
        self._link, self._lost, self._looks = link, None, False
        link.users.add(self)
        return True

    def lost(self, error: RemoteUnavailable) -> None:
        """Called by the session when it breaks."""
        self._lost = error
        self._forget()
        self._news.set()

    def _forget(self) -> None:
        self._link = None
        self._is_empty = False
        self._listening.clear()
        self._asleep.clear()

    def rung(self, *_: object) -> None:
        """Look again: there is something in a queue. Called in the reader's loop."""
        self._rung = True
        self._news.set()

    def _hear(self, link: Link, numbers: Iterable[int]) -> None:
        """Listen for the bells of queues. The sessions' order puts that before the next look."""
        new = [number for number in numbers if number not in self._listening]
        if new:
            self._listening.update(new)
            link.listen([bell(number) for number in new], self.rung, self._deadline())

    def _leave(self, link: Link, numbers: Iterable[int]) -> None:
        """Listen for these bells no more."""
        ended = [number for number in numbers if number in self._listening]
        if not ended:
            return
        self._listening.difference_update(ended)
        self._wake(link, ended)
        link.unlisten([bell(number) for number in ended], self.rung, self._deadline())

    def _wake(self, link: Link, numbers: Iterable[int]) -> None:
        """Have senders not ring for these queues."""
        awake = [number for number in numbers if number in self._asleep]
        if awake:
            self._asleep.difference_update(awake)
            link.call(AWAKE, [",".join(map(str, awake))], self._deadline())

    def _tidy(self, link: Link, wanted: Iterable[int]) -> None:
        """Listen for no more bells than `wanted`, if there are many."""
        if len(self._listening) > _MOST_BELLS:
            self._leave(link, self._listening.difference(wanted))

    def _look(
        self, statement: Statement, arguments: Sequence[Argument], on: Sequence[int], may_sleep: Sequence[int]
    ) -> None:
        """Send a look for messages in queues `on`. It puts the session to sleep on `may_sleep`, if there are none."""
        assert self._link is not None
        self._rung = self._is_empty = False
        self._answer = None
        self._looks = True
        self._news.clear()
        look = self._look_under_way = object()

        def answered(rows: Rows | None) -> None:
            is_emptied = False
            if rows and rows[0][0] == 0:
                self._asleep.update(may_sleep)
                del rows[0]
            elif rows and rows[-1][0] == -1:
                is_emptied = True
                del rows[-1]
            if self._look_under_way is look:  # else it was abandoned
                self._looks = False
                self._answer = rows
                self._is_empty = is_emptied and self._asleep.issuperset(on)
                self._news.set()

        self._link.call(statement, arguments, self._deadline(), then=answered)

    def _answered(self) -> list[Row]:
        """The rows of the last look. Raises `ReadingLost`."""
        if self._answer is None:
            error, self._lost = self._lost, None
            self._forget()
            raise ReadingLost("no answer" if error is None else str(error))
        self._backoff.failures = 0
        return sorted(self._answer)

    async def _until_news(self, until: float) -> bool:
        """Wait for an answer, a bell or a wake until the time `until`. False: nothing came."""
        if self._news.is_set():
            return True
        timer = Timer(self._loop, until, self._news.set)
        self._asked = monotonic()
        try:
            await self._news.wait()
        finally:
            self._asked = None
            timer.cancel()
        return self._rung or self._lost is not None or monotonic() < until

    def _deadline(self) -> float:
        return monotonic() + min(_MARGIN, self._connections.timeout)

    async def pause(self, cause: ReadingLost) -> None:
        """Wait before the next try, longer each time."""
        await self._backoff.pause(cause)

    async def close(self) -> None:
        """End the reading. None may be under way."""
        link = self._link
        if link is not None:
            link.users.discard(self)
            self._leave(link, list(self._listening))
            self._forget()

    async def _measured(self) -> str | None:
        """Measure the server's clock. Returns its epoch, or None without an answer."""
        if self._link is None:
            return None
        asked = boottime()
        try:
            ((epoch, now),) = await self._link.call(MEASURE, [self._names.prefix], self._deadline())
        except RemoteUnavailable:
            return None
        self._shard.clock.measured(now / 1000, asked)
        return str(epoch)
