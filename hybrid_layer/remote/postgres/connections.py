# SPDX-License-Identifier: BSD-3-Clause
"""Which session a call travels on: each event loop that stays has one for each database, the I/O thread, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.postgres.hosts import Host
from hybrid_layer.remote.postgres.link import Link
from hybrid_layer.remote.postgres.pipeline import Rows
from hybrid_layer.remote.postgres.statements import Argument, Statement
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.remote.runtime.calls import Calls, LoopState, Shape
from hybrid_layer.timers import time_limit


@dataclass(frozen=True, slots=True)
class Request:
    """A call, before it is known which session it travels on."""

    statement: Statement
    arguments: Callable[[Link], Sequence[Argument]]
    """What it is called with, which may depend on the session."""
    key: int = 0
    then: Callable[[Link, Rows], None] | None = None
    """Called with the rows as soon as they are there."""


class Connections(Calls[Request]):
    """The sessions of one process and layer."""

    def __init__(self, context: Context, hosts: Sequence[Host]) -> None:
        super().__init__(context.loops, context.options.timeout)
        self._hosts = hosts
        self._shards = context.shards
        self._count = context.statistics.count

    async def _call(self, here: LoopState, shard: int, call: Request, deadline: float, shape: Shape | None) -> Rows:
        link = self._link(here, shard)
        then = call.then
        notify = None if then is None else lambda rows: None if rows is None else then(link, rows)
        return await link.call(call.statement, call.arguments(link), deadline, call.key, notify)

    async def open_link(self, shard: int) -> Link:
        """The running loop's session of a database, open. Raises `ReadingLost`."""
        link = self._link(self.loops.get(), shard)
        if not link.is_open:
            try:
                async with time_limit(self.timeout):
                    await asyncio.wait([link.opened])
            except TimeoutError:
                raise ReadingLost(f"no connection within {self.timeout} s") from None
            if (error := link.opened.exception()) is not None:
                raise ReadingLost(str(error))
            if not link.is_open:
                raise ReadingLost("the connection was closed")
        return link

    def deadline(self) -> float:
        """When a call that begins now must end."""
        return monotonic() + self.timeout

    def _link(self, here: LoopState, shard: int) -> Link:
        found: Link | None = here.connections.get(shard)
        if found is None or not found.usable:
            if here.is_thread and not here.stays():
                raise io_thread.cut_short()
            found = Link(self._hosts[shard], self.timeout, partial(self._ended, here, shard), self._count)
            here.connections[shard] = found
        return found

    def _ended(self, here: LoopState, shard: int, link: Link, broke: bool) -> None:
        if here.connections.get(shard) is link:
            del here.connections[shard]
        if broke:
            self._shards[shard].on_lost()
