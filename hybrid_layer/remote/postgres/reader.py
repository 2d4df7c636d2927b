# SPDX-License-Identifier: BSD-3-Clause
"""The reader of normal channels or inboxes. What it reads is taken from the database, so no look is abandoned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from hybrid_layer.clock import monotonic
from hybrid_layer.loops import call_in
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.epoch import Epoch
from hybrid_layer.remote.delivery.replies import Batch
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.postgres.connections import Connections
from hybrid_layer.remote.postgres.entries import Row, entry_of, note_of
from hybrid_layer.remote.postgres.names import Names
from hybrid_layer.remote.postgres.sleeper import Sleeper
from hybrid_layer.remote.postgres.statements import TAKE
from hybrid_layer.remote.runtime.orphans import end_orphan
from hybrid_layer.timers import call_later

_PATIENCE = 1.0
"""Seconds that a cancelled look waits for its answer."""


class Reader(Sleeper):
    """Implements `hybrid_layer.remote.delivery.store.Reader`."""

    def __init__(
        self, connections: Connections, shard: Shard, names: Names, options: DeliveryOptions, notes_of: str
    ) -> None:
        super().__init__(connections, shard, names, options)
        self._notes_of = notes_of
        self._sources: Sequence[str] = ()
        self._queues = ""
        self._numbers: list[int] = []
        """The numbers of the queues that are read, in their order."""
        self._interrupted = False
        self._given_up = False
        self.cancelled = False

    async def connect(self) -> None:
        await self._open()

    async def read(self, sources: Sequence[str], count: int) -> Batch | None:
        await self._open()
        if sources != self._sources:
            self._read_from(sources)
        until = monotonic() + self._block_time
        while True:
            if not self._is_empty or self._rung:
                rows = await self._take(count)
                if rows:
                    return self._batch(rows, count)
            self._is_empty = False  # the next read looks, if only to notice that the server is gone
            while not self._rung:
                if self._interrupted or self.cancelled:
                    self._interrupted = False
                    return None
                if not await self._rings(until):
                    return None

    def _read_from(self, sources: Sequence[str]) -> None:
        names, notes_of = self._names, self._notes_of
        self._sources, self._is_empty = list(sources), False
        queues = [names.queue(source) for source in sources]
        self._queues = ",".join([names.notes(notes_of), *queues] if notes_of else queues)
        self._numbers = sorted({names.number(notes_of)} if notes_of else set(map(names.number_of, sources)))

    async def _take(self, count: int) -> list[Row]:
        """The rows of the first queue that has any; none if the session sleeps now."""
        link, self._answer = self._link, None
        if link is not None:
            self._hear(link, self._numbers)
            sleepless = [number for number in self._numbers if number not in self._asleep]
            self._look(TAKE, [self._queues, ",".join(map(str, sleepless)), count], self._numbers, sleepless)
            self._tidy(link, self._numbers)
        while self._looks:
            try:
                await self._news.wait()
            except asyncio.CancelledError:
                self._note_cancellation()
            self._news.clear()
        return self._answered()

    async def _rings(self, until: float) -> bool:
        """Wait for a bell or an interruption. False: neither came."""
        try:
            found = await self._until_news(until)
        except asyncio.CancelledError:
            self._note_cancellation()
            return True
        self._news.clear()
        if self._lost is not None:
            self._answer = None
            self._answered()
        return found

    def _note_cancellation(self) -> None:
        if self._given_up:
            raise asyncio.CancelledError
        if not self.cancelled:
            task = asyncio.current_task()
            call_later(self._loop, _PATIENCE, lambda: None if task is None else self._give_up(task))
        self.cancelled = True

    def _batch(self, rows: list[Row], count: int) -> Batch:
        place = rows[0][0] - 1
        if len(rows) >= count > 1 and self._link is not None:
            self._wake(self._link, list(self._asleep))  # it comes back at once: nobody need ring
        if self._notes_of:
            if place == 0:
                return Batch("", notes=[note_of(row[4]) for row in rows])
            place -= 1
        return Batch(self._sources[place], [entry_of(row) for row in rows])

    async def learn_time(self, stamps_ms: Iterable[int]) -> None:
        if any(self._shard.clock.left(stamp) <= 0 for stamp in stamps_ms):
            await self._learn()

    async def learn_epoch(self, epoch: Epoch) -> None:
        known = epoch.known
        found = await self._learn()
        if found:
            epoch.answered(found.encode(), known)

    async def _learn(self) -> str | None:
        try:
            return await self._measured()
        except asyncio.CancelledError:
            self.cancelled = True  # the caller hands over what was read first
            return None

    def interrupt(self) -> None:
        self._interrupted = True
        call_in(self._loop, self._news.set)

    def abort(self, task: asyncio.Task[Any]) -> None:
        if task.get_loop().is_closed():
            self._forget()
            end_orphan(task)
        else:
            self._give_up(task)

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        self._given_up = True
        if not task.done():
            task.cancel()
