# SPDX-License-Identifier: BSD-3-Clause
"""What the reading connections have in common: how they are opened and lost, and when an answer is late."""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError

from hybrid_layer.clock import boottime, seconds
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import write
from hybrid_layer.remote.redis.server.handshake import greet, warn_of_eviction
from hybrid_layer.remote.redis.server.host import Host, open_within
from hybrid_layer.remote.redis.server.replies import answered, checked, is_time, next_reply
from hybrid_layer.remote.runtime.backoff import Backoff, ReadingLost
from hybrid_layer.statistics import warn
from hybrid_layer.timers import time_limit

_MARGIN = 2.0
"""Seconds beyond the block time until an answer is given up."""


class ReadingConnection:
    """A connection on which a reader waits. It belongs to one task."""

    def __init__(self, host: Host, shard: Shard, options: DeliveryOptions) -> None:
        self._host = host
        self._shard = shard
        self._block_time, self._timeout = options.block_time, options.timeout
        # Above the block time: the client's default would end every idle read.
        self._read_timeout = host.read_timeout or self._block_time + _MARGIN
        self._late_after = (self._block_time + self._read_timeout) / 2
        self._open_within = open_within(host, self._timeout)
        self._connection: Any = None
        self._backoff = Backoff(host.label)

    async def _open(self) -> bool:
        """Open the connection, unless it is open. Returns whether it is a new one. Raises `ReadingLost`."""
        if self._connection is not None:
            return False
        try:
            async with time_limit(self._open_within):
                self._connection = await self._host.connection()
                _, memory = await greet(self._connection, [("TIME",), ("INFO", "memory")])
                warn_of_eviction(self._host.label, memory)
                await self._measure()
        except (RedisError, OSError, TimeoutError) as error:
            await self._lose(error)
            raise ReadingLost(str(error) or "no connection in time") from None
        except BaseException:
            await self.close()
            raise
        return True

    async def pause(self, cause: ReadingLost) -> None:
        """Wait before the next try, longer each time."""
        await self._backoff.pause(cause)

    async def close(self) -> None:
        """Close the connection. No read may be under way."""
        connection, self._connection = self._connection, None
        await sockets.close(connection)

    async def _lose(self, cause: Exception) -> None:
        self._host.invalidate(cause)
        sockets.discard(self._connection)
        await self.close()

    async def _ask(self, *command: str) -> Any:
        """The answer to a command. If it is abandoned, the connection must be closed."""
        connection = self._connection
        try:
            async with time_limit(self._timeout):
                write(connection, [command])
                return answered(await next_reply(connection))
        except TimeoutError:
            raise TimeoutError(f"no answer to {command[0]} within {self._timeout} s") from None

    async def _measure(self) -> None:
        asked = boottime()
        reply = checked("TIME", await self._ask("TIME"), is_time)
        self._shard.clock.measured(seconds(reply), asked)

    def _warn_of_type(self, key: str, kind: bytes, expected: str) -> None:
        """Warn of another program's value at `key`, of the type `kind`."""
        found = kind.decode("ascii", "replace")
        warn(
            ("type", key),
            f"The key {key} on {self._host.label} holds a {found}, not a {expected} of hybrid_layer. Nothing can be "
            f"received from it until it is removed. Does another program write keys with this prefix?",
        )
