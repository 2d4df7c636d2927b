"""Timers that go by the real clock, where a test has frozen that of the event loop.

freezegun replaces the clock of asyncio's loops: what was to be called later is called at once, and what is to be
called later meanwhile is called when the clock comes back to that, which may be in decades. So a timer that comes early
waits on, and one that is made meanwhile has a thread that waits for it.
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

_of_loops: Callable[[], float] = partial(time.monotonic)
"""The clock of event loops that nobody has replaced."""
_ASTRAY = 1.0
"""Seconds by which the clock of a loop differs if somebody has."""
_EARLY = 0.005
"""Seconds that a loop may call early."""


class Timer:
    """Calls `callback` in `loop`, in which it was made, when `due` has come on `hybrid_layer.clock`.

    In an empty context, lest it keep that of whoever was the first to need it.
    """

    __slots__ = ("_callback", "_due", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, due: float, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._due = due
        self._callback: Callable[[], object] | None = callback
        self._start()

    def cancel(self) -> None:
        """Do not call."""
        self._callback = None
        self._handle.cancel()

    def _start(self) -> None:
        left = max(0.0, self._due - monotonic())
        self._handle: asyncio.TimerHandle | threading.Timer
        if abs(self._loop.time() - _of_loops()) < _ASTRAY:
            self._handle = contextvars.Context().run(self._loop.call_later, left, self._ring)
        else:
            self._handle = threading.Timer(left, self._ring_from_thread)
            self._handle.daemon = True
            self._handle.start()

    def _ring_from_thread(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:  # the loop was closed
            pass

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
    """Call `callback` in `loop`, which runs here, in `delay` seconds."""
    return Timer(loop, monotonic() + delay, callback)


async def sleep(delay: float) -> None:
    """As `asyncio.sleep`."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    timer = call_later(loop, delay, lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        timer.cancel()


class time_limit:  # noqa: N801  # read as a function, as asyncio's timeout is
    """As `asyncio.timeout`; None is no limit."""

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
