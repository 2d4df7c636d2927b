"""A TCP proxy in front of a server, which fails once, at a chosen byte.

    with Proxy(server.port) as proxy:
        layer = RedisChannelLayer(hosts=[proxy.url])
        proxy.fail("cut", "replies", 17)    # after 17 more bytes of replies
        ...
        proxy.heal()

Later connections are served, so the test finds a client that repeats what may have been executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from tests.support.local_server import LocalServer
from tests.support.servers import HOST

Fault = Literal["cut", "swallow", "stall"]
"""``cut``: all connections break. ``swallow``: later bytes in that direction on this connection are lost. ``stall``:
it waits for `heal`."""
Direction = Literal["commands", "replies"]


class Proxy(LocalServer):
    """Forwards connections to a port of this machine. As a context manager it ends with the block."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._fault: Fault | None = None
        self._direction: Direction = "replies"
        self._left = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._deaf: set[asyncio.StreamWriter] = set()
        self._healed = asyncio.Event()
        super().__init__(self._accept)

    def fail(self, fault: Fault, direction: Direction, after: int) -> None:
        """Fail once `after` more bytes have passed in that direction, over all connections together."""

        async def fail() -> None:
            self._fault, self._direction, self._left = fault, direction, after
            self._healed.clear()

        self._do(fail())

    @property
    def has_failed(self) -> bool:
        """Whether the chosen byte has been reached."""
        return self._fault is None

    def heal(self) -> None:
        """Let through what stalled. Connections that lost bytes break, since they make no sense any more."""

        async def heal() -> None:
            self._fault = None
            self._healed.set()
            for writer in self._deaf:
                writer.close()

        self._do(heal())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._break_all)
        super().close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            their_reader, their_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            return  # the server is away: so is the proxy
        writers = {writer, their_writer}
        self._writers |= writers
        pumps = [
            asyncio.ensure_future(self._pump(reader, their_writer, "commands")),
            asyncio.ensure_future(self._pump(their_reader, writer, "replies")),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            their_writer.close()
            self._writers -= writers
            self._deaf -= writers

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        try:
            while data := await reader.read(65536):
                async for part in self._parts(data, direction, writer):
                    writer.write(part)
                    await writer.drain()
        except OSError:
            pass

    async def _parts(self, data: bytes, direction: Direction, writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
        """The bytes that pass now, and for a stall those that pass later."""
        if writer in self._deaf:
            return
        if self._fault is None or direction != self._direction:
            yield data
            return
        now, self._left = self._left, self._left - len(data)
        if self._left > 0:
            yield data
            return
        fault, self._fault = self._fault, None
        if fault == "cut":
            # What was let through has to arrive before the end does.
            self._loop.call_soon(self._break_all)
        elif fault == "swallow":
            self._deaf.add(writer)
        yield data[:now]
        if fault == "stall":
            await self._healed.wait()
            yield data[now:]

    def _break_all(self) -> None:
        for writer in self._writers:
            writer.close()
