# SPDX-License-Identifier: BSD-3-Clause
"""A supervised task in the I/O thread. It continues while no event loop of the application runs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import ClassVar

from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.supervision import LAST_PAUSE, Count, keep_going, start_task
from hybrid_layer.timers import time_limit

_inherited: list[asyncio.Task[None]] = []
"""A parent's tasks, kept alive in its children: as garbage they would warn of the parent's connections."""


class ResidentTask:
    """Runs `_run` from the first `settle`, and anew with each new I/O thread. See `io_thread.Resident`.

    `count` counts its errors. `last_pause` is the longest pause after an error, in seconds.
    """

    _what: ClassVar[str]
    """Its name in the log."""

    def __init__(self, count: Count | None = None, last_pause: float = LAST_PAUSE) -> None:
        self._count = count
        self._last_pause = last_pause
        self.thread: io_thread.IOThread | None = None
        """The thread in which it was settled; after a fork, the parent's."""
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def _run(self) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Run in this process from now on. May be called from any thread, repeatedly."""
        thread = io_thread.current()
        if self.thread is not thread:
            self.thread = thread
            thread.settle(self)

    def wake(self) -> None:
        """End its `_wait`, or the next one, from any thread. Does nothing before the first `settle`."""
        thread = self.thread
        if thread is not None and thread is io_thread.current():
            thread.call_soon(lambda: self._news.set())

    def abort(self) -> None:
        """End it, from any thread. A child leaves its parent's task alone."""
        thread = self.thread
        if thread is not None and thread is io_thread.current():
            thread.residents.discard(self)
            thread.call_soon(self._cancel)  # not at once: the thread may be about to start it

    def start(self) -> None:
        """Begin in the I/O thread's loop. See `io_thread.Resident`."""
        loop, task = asyncio.get_running_loop(), self._task
        if task is not None and not task.done():
            if task.get_loop() is loop:
                return
            _inherited.append(task)
        self._news = asyncio.Event()
        self._task = start_task(loop, keep_going(self._what, self._run, self._count, self._last_pause))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _wait(self, seconds: float) -> None:
        """Wait at most `seconds`, or until `wake`. Returns at once if `wake` was called since the last wait."""
        with contextlib.suppress(TimeoutError):
            async with time_limit(seconds):
                await self._news.wait()
        self._news.clear()
