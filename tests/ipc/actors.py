"""Event loops that a test leads step by step: in threads of its own process, and in second processes.

A command for an actor is a method of `Hands` and its arguments; so the same runs on either side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from channels.exceptions import ChannelFull

from hybrid_layer.ipc import IPCChannelLayer
from tests.ipc.tools import layer_of
from tests.support.process_main import Parent
from tests.support.processes import Process
from tests.support.waiting import turns, until

SECONDS = 20.0
BRIEF = 0.001
"""Seconds that the messages of the second layer live."""


class Hands:
    """What one event loop does with the layers of its process."""

    def __init__(self, layer: IPCChannelLayer, brief: IPCChannelLayer) -> None:
        self._layer = layer
        self._brief = brief
        self._receiving: dict[int, asyncio.Task[Any]] = {}

    async def send(self, channel: str, n: int) -> bool:
        """Whether there was room."""
        try:
            await self._layer.send(channel, {"n": n})
        except ChannelFull:
            return False
        return True

    async def send_brief(self, channel: str) -> bool:
        """The same; when it returns, the message has expired."""
        try:
            await self._brief.send(channel, {"n": -1})
        except ChannelFull:
            return False
        await until(time.monotonic() + 2 * BRIEF)
        return True

    async def receive(self, number: int, channel: str) -> None:
        """Begin to; `arrived` and `cancel` tell what comes of it."""
        self._receiving[number] = asyncio.create_task(self._layer.receive(channel))
        await turns()

    async def arrived(self) -> dict[int, int]:
        """What came since the last time."""
        done = [number for number, task in self._receiving.items() if task.done()]
        return {number: self._receiving.pop(number).result()["n"] for number in done}

    async def cancel(self, number: int) -> int | None:
        """What it had got, or None."""
        task = self._receiving.pop(number)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            n: int = (await task)["n"]
            return n
        return None

    async def new_channel(self) -> str:
        return await self._layer.new_channel()

    async def group_add(self, group: str, channel: str) -> None:
        await self._layer.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._layer.group_discard(group, channel)

    async def group_send(self, group: str, n: int) -> None:
        await self._layer.group_send(group, {"n": n})

    async def flush(self) -> None:
        await self._layer.flush()

    async def close(self) -> None:
        await self._layer.close()

    async def statistics(self) -> dict[str, int]:
        return await self._layer.statistics()


class ThreadActor:
    """An event loop in a thread of this process."""

    def __init__(self, layer: IPCChannelLayer, brief: IPCChannelLayer) -> None:
        self._loop = asyncio.new_event_loop()
        self._hands = Hands(layer, brief)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def begin(self, what: str, *args: Any) -> Callable[[], Any]:
        """Let it begin; the result is a function that waits for the end."""
        future = asyncio.run_coroutine_threadsafe(getattr(self._hands, what)(*args), self._loop)
        return lambda: future.result(SECONDS)

    def end(self) -> None:
        """End the loop, in order."""
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_asyncgens(), self._loop).result(SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()


class ProcessActor:
    """The event loop of a second process that runs `act`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def begin(self, what: str, *args: Any) -> Callable[[], Any]:
        self._process.send((what, args))
        return lambda: self._process.receive(SECONDS)

    def end(self) -> None:
        self._process.send(None)
        self._process.result()


async def act(parent: Parent, prefix: str, options: dict[str, Any]) -> None:
    """The other end of `ProcessActor`."""
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())  # prints no warnings
    hands = Hands(layer_of(prefix, **options), layer_of(prefix, **options, expiry=BRIEF))
    while (step := await asyncio.to_thread(parent.receive)) is not None:
        what, args = step
        parent.send(await getattr(hands, what)(*args))
