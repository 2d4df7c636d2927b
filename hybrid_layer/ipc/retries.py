"""Operations of an event loop that failed because another process held the segment's lock, and are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from hybrid_layer.ipc.stall_detector import PAUSE
from hybrid_layer.supervision import Guard
from hybrid_layer.timers import call_later


class Retries:
    """The retries of one event loop. All methods and callbacks are called in that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, guard: Guard) -> None:
        self._loop = loop
        self._guard = guard
        self._callbacks: dict[Hashable, Callable[[], None]] = {}

    def soon(self, key: Hashable, callback: Callable[[], None]) -> None:
        """Call `callback` after a pause, once for each `key`, however often it was requested."""
        if not self._callbacks:
            call_later(self._loop, PAUSE, self._retry)
        self._callbacks[key] = callback

    def _retry(self) -> None:
        callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            with self._guard:
                callback()
