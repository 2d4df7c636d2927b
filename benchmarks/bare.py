"""The bare limits: what is left when a channel layer is taken away. Same methods, so that the same roles can use them.

No capacity, no expiry, no groups, no checks; a limit is not a rival but a yardstick.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
from collections import deque
from pathlib import Path
from typing import Any

import msgpack

_READ_SIZE = 65_536
_PIPE_SIZE = 1024 * 1024
"""The largest that the kernel gives without privileges; a sender fills 64 KiB before its receiver wakes."""


class Pipes:
    """asyncio, msgpack and one pipe for each channel, with nothing in between.

    FIFOs, because two processes find them by name; in the kernel a FIFO is a pipe. `add_reader` and a future, because
    asyncio's own streams are slower.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._names = (f"specific.{os.getpid()}!{number}" for number in itertools.count(1))
        self._descriptors: dict[str, int] = {}
        self._readers: dict[str, _PipeReader] = {}

    def _open(self, channel: str) -> int:
        path = self._directory / channel
        try:
            os.mkfifo(path)
        except FileExistsError:
            pass  # the other process was faster
        # Read and write: opening does not wait for the other end, and its absence is no error.
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._descriptors[channel] = descriptor
        return descriptor

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        descriptor = self._descriptors.get(channel) or self._open(channel)
        payload = msgpack.packb(message)
        while True:
            try:
                os.write(descriptor, payload)  # whole or not at all: shorter than PIPE_BUF
                return
            except BlockingIOError:
                await self._room(descriptor)

    async def _room(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        loop.add_writer(descriptor, _settle, room)
        try:
            await room
        finally:
            loop.remove_writer(descriptor)

    async def receive(self, channel: str) -> Any:
        reader = self._readers.get(channel)
        if reader is None:
            descriptor = self._descriptors.get(channel) or self._open(channel)
            reader = self._readers[channel] = _PipeReader(descriptor)
        while not reader.messages:
            reader.arrival = asyncio.get_running_loop().create_future()
            await reader.arrival
        return reader.messages.popleft()

    async def new_channel(self) -> str:
        return next(self._names)

    async def close(self) -> None:
        for reader in self._readers.values():
            asyncio.get_running_loop().remove_reader(reader.descriptor)
        for descriptor in self._descriptors.values():
            os.close(descriptor)


class _PipeReader:
    """What came through one pipe and was not taken yet."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.messages: deque[Any] = deque()
        self.arrival: asyncio.Future[None] | None = None
        self._unpacker = msgpack.Unpacker()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        self._unpacker.feed(os.read(self.descriptor, _READ_SIZE))
        self.messages.extend(self._unpacker)
        if self.arrival is not None:
            _settle(self.arrival)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class RedisLists:
    """redis-py alone: a script that pushes and sets the list's life, a blocking pop. One connection each way."""

    _PUSH = "redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('EXPIRE', KEYS[1], 60)"

    def __init__(self, url: str, prefix: str) -> None:
        from redis.asyncio import Redis

        self._prefix = prefix
        self._names = (f"specific.{os.getpid()}!{number}" for number in itertools.count(1))
        self._sending = Redis.from_url(url, single_connection_client=True, protocol=2)
        self._receiving = Redis.from_url(url, single_connection_client=True, protocol=2, socket_timeout=None)
        self._push = ""

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        if not self._push:
            self._push = await self._sending.script_load(self._PUSH)
        await self._sending.evalsha(self._push, 1, f"{self._prefix}|{channel}", msgpack.packb(message))

    async def receive(self, channel: str) -> Any:
        popped = await self._receiving.blpop([f"{self._prefix}|{channel}"])
        assert popped is not None, "BLPOP without a timeout waits"
        return msgpack.unpackb(popped[1])

    async def new_channel(self) -> str:
        return next(self._names)

    async def close(self) -> None:
        await self._sending.aclose()
        await self._receiving.aclose()


class Timer:
    """Wakes its loop once a second and does nothing then."""

    async def new_channel(self) -> str:
        return "specific.timer!1"

    async def receive(self, channel: str) -> Any:
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def tick() -> None:
            nonlocal timer
            timer = loop.call_later(1, tick)

        tick()
        try:
            await loop.create_future()
        finally:
            timer.cancel()


class Nothing:
    """Sends into the void: what is left is the caller's own cost."""

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        pass
