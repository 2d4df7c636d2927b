"""What an event loop tries again when the segment's lock may be had, which another process held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from hybrid_layer.ipc.stall_detector import PAUSE
from hybrid_layer.supervision import Guard
from hybrid_layer.timers import call_later


class Retries:
    """Of one event loop, in which all is called."""

    def __init__(self, loop: asyncio.AbstractEventLoop, guard: Guard) -> None:
        self._loop = loop
        self._guard = guard
        self._callbacks: dict[Hashable, Callable[[], None]] = {}

    def soon(self, key: Hashable, callback: Callable[[], None]) -> None:
        """Call back when the lock may be had again; once for each key, however often it was asked for."""
        if not self._callbacks:
            call_later(self._loop, PAUSE, self._retry)
        self._callbacks[key] = callback

    def _retry(self) -> None:
        callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            with self._guard:
                callback()
