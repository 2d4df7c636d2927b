"""Looks again and again where the name of a host leads. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING

from hybrid_layer.remote import io_thread
from hybrid_layer.supervision import keep_going, start_task
from hybrid_layer.timers import sleep, time_limit

if TYPE_CHECKING:
    from hybrid_layer.remote.named_host import NamedHost

_AGAIN = 0.5
"""Seconds between two looks, once there is a reason: connections may still be under way to the old server."""
_inherited: list[object] = []
"""A parent's tasks, kept in its children: as garbage they would complain of the parent's connections."""


class NameWatch:
    """Of one host, which it does not keep alive."""

    def __init__(self, host: NamedHost) -> None:
        self._host = weakref.ref(host)
        self._pause = host.pause
        self._thread: io_thread.IOThread | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        weakref.finalize(host, self._stop).atexit = False

    def settle(self) -> None:
        """Start looking in this process, from any thread."""
        thread = io_thread.current()
        if self._thread is not thread:
            self._thread = thread
            thread.settle(self)

    def look_soon(self) -> None:
        """There is reason to look, from any thread."""
        thread = self._thread
        if thread is not None and thread is io_thread.current():
            thread.call_soon(self._news.set)

    def start(self) -> None:
        """Begin in the I/O thread's loop. See `io_thread.Resident`."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._loop is not loop:
            if self._task is not None and not self._task.done():
                _inherited.append(self._task)
            self._loop, self._news = loop, asyncio.Event()
            self._news.set()  # soon, to know whom the first connections lead to
            self._task = start_task(loop, keep_going("the watch over a host name", self._run, None))

    def _stop(self) -> None:
        thread = self._thread
        if thread is io_thread.current() and thread is not None:
            thread.leave(self)
            thread.call_soon(self._cancel)  # not at once: the thread may only just be about to start it

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await sleep(_AGAIN)
            try:
                async with time_limit(self._pause - _AGAIN):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            host = self._host()
            if host is None:
                return
            if await host.look():
                self._news.set()
            del host
