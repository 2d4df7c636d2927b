# SPDX-License-Identifier: BSD-3-Clause
"""Timers on the real clock, also while a test has frozen the clock of the event loop.

freezegun replaces the clock of asyncio's loops. Then earlier timers fire at once, and new ones only when the clock
reaches their time, which may take decades. So a timer that fires early waits again, and one that is made meanwhile has
a thread that waits for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType

from hybrid_layer.clock import monotonic
from hybrid_layer.loops import call_in

_of_loops: Callable[[], float] = partial(time.monotonic)
"""The clock that event loops have by default."""
_ASTRAY = 1.0
"""Seconds by which a loop's clock differs if it was replaced."""
_EARLY = 0.005
"""Seconds that a loop may call early."""


class Timer:
    """Calls `callback` in `loop` once `hybrid_layer.clock.monotonic` reaches `due`. Made in `loop`.

    The callback has an empty context, since the context of the caller would live as long as the timer.
    """

    __slots__ = ("_callback", "_due", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, due: float, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._due = due
        self._callback: Callable[[], object] | None = callback
        self._start()

    def cancel(self) -> None:
        """Do not call the callback."""
        self._callback = None
        self._handle.cancel()

    def _start(self) -> None:
        left = max(0.0, self._due - monotonic())
        self._handle: asyncio.TimerHandle | threading.Timer
        if abs(self._loop.time() - _of_loops()) < _ASTRAY:
            self._handle = contextvars.Context().run(self._loop.call_later, left, self._ring)
        else:
            self._handle = threading.Timer(left, call_in, [self._loop, self._ring])
            self._handle.daemon = True
            self._handle.start()

    def _ring(self) -> None:
        callback = self._callback
        if callback is None:
            return
        if self._due - monotonic() > _EARLY:
            self._start()
        else:
            self._callback = None
            callback()


def call_later(loop: asyncio.AbstractEventLoop, delay: float, callback: Callable[[], object]) -> Timer:
    """Call `callback` in `loop`, the running loop, after `delay` seconds."""
    return Timer(loop, monotonic() + delay, callback)


async def sleep(delay: float) -> None:
    """As `asyncio.sleep`, for `delay` seconds."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    timer = call_later(loop, delay, lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        timer.cancel()


class time_limit:  # noqa: N801  # used like a function, as asyncio's timeout
    """As `asyncio.timeout`, after `delay` seconds; None means no limit."""

    def __init__(self, delay: float | None) -> None:
        self._delay = delay
        self._limit = asyncio.timeout(None)
        self._timer: Timer | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        if self._delay is not None:
            loop = asyncio.get_running_loop()
            self._timer = call_later(loop, self._delay, lambda: self._limit.reschedule(loop.time()))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)
