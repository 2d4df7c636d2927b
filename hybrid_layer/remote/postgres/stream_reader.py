# SPDX-License-Identifier: BSD-3-Clause
"""The reader of a machine's stream. It removes nothing, so its reads may be abandoned at any time."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.replies import StreamItem
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.postgres.connections import Connections
from hybrid_layer.remote.postgres.entries import item_of
from hybrid_layer.remote.postgres.names import Names
from hybrid_layer.remote.postgres.sleeper import Sleeper
from hybrid_layer.remote.postgres.statements import FOLLOW
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.transport import Position


class StreamReader(Sleeper):
    """Implements `hybrid_layer.remote.delivery.store.StreamReader`."""

    def __init__(
        self, connections: Connections, shard: Shard, names: Names, options: DeliveryOptions, machine: str
    ) -> None:
        super().__init__(connections, shard, names, options)
        self._machine = machine
        self._queue = names.queue(f"@{machine}!")
        self._number = names.number(f"@{machine}")

    async def connect(self) -> bool:
        return await self._open()

    async def read(self, after: Position, count: int) -> Sequence[StreamItem]:
        until = monotonic() + self._block_time
        while True:
            link = self._link
            if link is None:
                raise ReadingLost("there is no connection")
            self._hear(link, [self._number])
            may_sleep = self._number not in self._asleep
            self._look(FOLLOW, [self._queue, self._number, after.ms, count, may_sleep], (), [self._number])
            while self._looks:
                await self._news.wait()
                self._news.clear()
            rows = self._answered()
            if rows:
                return [item_of(row, self._machine) for row in rows]
            while not self._rung:
                if not await self._until_news(until):
                    return []
                self._news.clear()
                if self._lost is not None:
                    self._answer = None
                    self._answered()
