# SPDX-License-Identifier: BSD-3-Clause
"""A reading connection for a machine's stream. It removes nothing, so its reads may be abandoned at any time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.replies import StreamItem
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.redis.connections.reading_connection import ReadingConnection
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import Command, write
from hybrid_layer.remote.redis.server.errors import cause_of
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.server.replies import OddReply, answered, checked, is_text, next_reply
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.remote.redis.wire.stream import read_answer, written_position
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.timers import time_limit
from hybrid_layer.transport import Position

_LATE = object()
"""In place of an answer that did not come in time."""


class StreamReader(ReadingConnection):
    """Implements `hybrid_layer.remote.delivery.store.StreamReader`."""

    def __init__(self, host: Host, keys: Keys, shard: Shard, options: DeliveryOptions, machine: str) -> None:
        super().__init__(host, shard, options)
        self._machine = machine
        self._key = keys.inbox(f"@{machine}!")
        self._is_new = False
        """Nobody was told yet that the connection is new."""

    async def connect(self) -> bool:
        if await self._open():
            self._is_new = True
        is_new, self._is_new = self._is_new, False
        return is_new

    async def read(self, after: Position, count: int) -> Sequence[StreamItem]:
        if self._connection is None or self._is_new:
            raise ReadingLost("there is no connection of which `connect` has told")
        block_ms = max(1, int(self._block_time * 1000))
        command = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", self._key, written_position(after))
        try:
            reply = await self._answer(command)
            items = [] if reply is _LATE else read_answer(reply, self._key.encode(), self._machine)
            if items is None:
                raise OddReply(command[0], reply)
        except (RedisError, OSError, TimeoutError) as error:
            await self._lose(error)
            raise ReadingLost(cause_of(error, bool(self._host.tag))) from None
        except ReadingLost:
            raise
        except BaseException:  # abandoned: its answer must not be taken for that to another read
            sockets.discard(self._connection)
            await self.close()
            raise
        self._backoff.failures = 0  # only now: a server that accepts connections may still refuse reads
        return items

    async def _answer(self, command: Command) -> Any:
        connection = self._connection
        try:
            async with time_limit(self._late_after):
                write(connection, [command])
                return answered(await next_reply(connection))
        except TimeoutError:
            await self._open_another()
            return _LATE
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            kind = checked("TYPE", await self._ask("TYPE", self._key), is_text)
            self._warn_of_type(self._key, kind, "stream")
            await self.close()
            raise ReadingLost(cause_of(error)) from None

    async def _open_another(self) -> None:
        """Take another connection, as the answer is late. A live server whose clock was set back answers later by as
        much; if another connection can be had at once, the server is not lost.
        """
        late = TimeoutError(f"no answer within {self._read_timeout} s")
        await self._lose(late)
        try:
            async with time_limit(self._read_timeout - self._late_after):
                self._is_new = await self._open()
        except TimeoutError:
            raise late from None
