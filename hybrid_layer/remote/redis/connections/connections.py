# SPDX-License-Identifier: BSD-3-Clause
"""Which connection a command travels on, and what happens when a server answers "not now".

The shards of a cluster that are on one node share its connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.pipelined_connection import PipelinedConnection
from hybrid_layer.remote.redis.server.commands import Command
from hybrid_layer.remote.redis.server.errors import FINAL, NotConnected, is_elsewhere, is_not_now, unwrapped
from hybrid_layer.remote.redis.server.host import Host, unavailable
from hybrid_layer.remote.redis.server.replies import OddReply
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.remote.runtime.calls import Calls, LoopState, Shape
from hybrid_layer.timers import sleep, time_limit

_RETRY_PAUSE = 0.1
"""Seconds between two tries with a server that is not ready."""
_FOR_AN_ANSWER = 0.1
"""Minimum time left to retry: a reply that misses its deadline costs the connection and leaves the outcome unknown."""


class Connections(Calls[Command]):
    """The sending connections of one process and layer."""

    def __init__(self, context: Context, hosts: Sequence[Host]) -> None:
        super().__init__(context.loops, context.options.timeout)
        self.hosts = hosts
        self._shards = context.shards
        self._count = context.statistics.count

    async def _call(self, here: LoopState, shard: int, call: Command, deadline: float, shape: Shape | None) -> Any:
        host = self.hosts[shard]
        cause: RemoteUnavailable | None = None
        while True:
            try:
                found: PipelinedConnection | None = here.connections.get(shard)
                connection = found if found is not None and found.usable else await self._find(here, shard, deadline)
                reply = await connection.call(call, deadline)
            except NotConnected as error:
                cause = cause or error
                if host.switch_after is None or monotonic() + _RETRY_PAUSE >= deadline:
                    raise RemoteUnavailable(str(cause)) from None
                host.invalidate(error)
                await sleep(_RETRY_PAUSE)
                continue
            if not isinstance(reply, Exception):
                if shape is not None and not shape(reply):
                    raise unavailable(host, OddReply(scripts.name_of(call), reply))
                return reply
            reply = unwrapped(reply)
            if isinstance(reply, NoScriptError) and call[0] == "EVALSHA":
                reply = await connection.call(("SCRIPT", "LOAD", scripts.BY_SHA[str(call[1])].source), deadline)
                if not isinstance(reply, Exception):
                    continue
                reply = unwrapped(reply)
            if is_not_now(reply, bool(host.tag)) and monotonic() + _RETRY_PAUSE + _FOR_AN_ANSWER < deadline:
                cause = cause or unavailable(host, reply)
                if is_elsewhere(reply, bool(host.tag)) and here.connections.get(shard) is connection:
                    del here.connections[shard]
                    host.invalidate(reply)
                    self._shards[shard].on_lost()
                    if connection not in here.connections.values():
                        await connection.close()
                await sleep(_RETRY_PAUSE)
            else:
                raise unavailable(host, reply)

    async def _find(self, here: LoopState, shard: int, deadline: float) -> PipelinedConnection:
        """The connection to the server of `shard`, opened unless another shard has it. Raises `RemoteUnavailable`."""
        host = self.hosts[shard]
        try:
            async with time_limit(deadline - monotonic()):
                endpoint = await host.endpoint()
        except FINAL as error:
            raise unavailable(host, error) from None
        except (RedisError, OSError, TimeoutError) as error:
            raise NotConnected(str(unavailable(host, str(error) or "no answer in time"))) from None
        connections: dict[int, PipelinedConnection] = here.connections
        found = connections.get(shard)
        if found is not None and found.usable:  # another call was faster, perhaps with another answer
            return found
        known = next((each for each in connections.values() if each.host is endpoint and each.usable), None)
        if known is None:
            if here.is_thread and not here.stays():
                raise io_thread.cut_short()
            known = PipelinedConnection(endpoint, self.timeout, partial(self._ended, here), self._count)
        connections[shard] = known
        return known

    def _ended(self, here: LoopState, connection: PipelinedConnection, broke: bool) -> None:
        shards = [shard for shard, each in here.connections.items() if each is connection]
        for shard in shards:
            del here.connections[shard]
        if connection.was_cancelled:
            here.ending = True
        elif broke:
            for shard in shards:
                self._shards[shard].on_lost()
