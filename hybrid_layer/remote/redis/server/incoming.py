# SPDX-License-Identifier: BSD-3-Clause
"""What arrives over a connection of redis-py, once that is open: in place of its parser and of asyncio's stream.

Both wait in several coroutines for what one callback brings. Here replies are parsed where they arrive. They go to a
coroutine that waits for the next one, or to a function, in the same callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from redis.exceptions import ConnectionError, InvalidResponse

from hybrid_layer.remote.redis.server.parsing import MISSING, Reader

_MOST_UNREAD = 1 << 17
"""Bytes that may wait for a reader. Beyond that, the server has to keep the rest."""
_CLOSED = "Connection closed by server."
"""As redis-py says it."""


class Incoming(asyncio.Protocol):
    """The replies over `connection`, which is open and has no reply under way. Used in its loop only."""

    def __init__(self, connection: Any) -> None:
        self._transport = connection._writer.transport
        self._writing: asyncio.Protocol = self._transport.get_protocol()
        """The protocol of asyncio's stream. It goes on telling the writer of the connection's state."""
        self._reader = Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=MISSING
        )
        self._take: Callable[[Any], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._unread = 0
        self._is_paused = False
        stream = connection._reader
        if stream._buffer:  # a server that says something without having been asked
            self._reader.feed(bytes(stream._buffer))
            stream._buffer.clear()
        if stream.at_eof() or self._transport.is_closing():
            self._error = stream.exception() or ConnectionError(_CLOSED)
        self._transport.set_protocol(self)
        connection._parser = self

    async def read_response(self, disable_decoding: bool = True) -> Any:
        """The next reply. Nothing is lost in a cancellation.

        A refusal is the reply, a `ResponseError`. Raises `RedisError` or `OSError` if the connection is lost, and
        `BusyLoadingError` if the server loads its data.
        """
        while True:
            reply = self._next()
            if reply is not MISSING:
                return reply
            await self._arrival()

    async def give_to(self, take: Callable[[Any], bool]) -> None:
        """Give each reply to `take`, where it arrives, until that returns False. Raises as `read_response`.

        After an exception, it may be called again.
        """
        self._take = take
        try:
            while self._give():
                await self._arrival()
        finally:
            self._take = None

    def on_disconnect(self) -> None:
        """Have no more replies. redis-py calls this."""
        self._end(ConnectionError(_CLOSED))

    def _next(self) -> Any:
        reply = self._reader.gets()
        if isinstance(reply, ConnectionError):
            raise reply
        if reply is MISSING:
            self._unread = 0
            if self._is_paused:
                self._is_paused = False
                self._transport.resume_reading()
        return reply

    def _give(self) -> bool:
        """Give what has arrived. Whether there is somebody who takes more."""
        while self._take is not None and (reply := self._next()) is not MISSING:
            if not self._take(reply):
                self._take = None
        return self._take is not None

    async def _arrival(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self, error: Exception | None = None) -> None:
        """Let who waits look, or raise `error`."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def _end(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()

    # Called by the transport

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            if self._take is not None:
                if not self._give():
                    self._wake()
                return
        except Exception as error:  # noqa: BLE001  # it is the reader's, not the transport's
            self._wake(error)
            return
        if self._waiter is not None:
            self._wake()
            return
        self._unread += len(data)
        if self._unread > _MOST_UNREAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool | None:
        self._end(ConnectionError(_CLOSED))
        return self._writing.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError(_CLOSED))
        self._writing.connection_lost(error)

    def pause_writing(self) -> None:
        self._writing.pause_writing()

    def resume_writing(self) -> None:
        self._writing.resume_writing()


def incoming(connection: Any) -> Incoming:
    """What arrives over redis-py's `connection`, which `greet` has opened."""
    return cast(Incoming, connection._parser)
