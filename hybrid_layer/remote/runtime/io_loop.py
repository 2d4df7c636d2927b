"""The event loop of the I/O thread, which outlives that thread over a fork."""

from __future__ import annotations

import asyncio
import selectors
import threading
from concurrent.futures import ThreadPoolExecutor

from hybrid_layer.clock import monotonic

_LOOKUPS_END = 3.0
"""Seconds that look-ups of host names under way get to end."""


class IOLoop(asyncio.SelectorEventLoop):
    """Of this kind whatever the policy says: it can be stopped and run again by another thread, and its selector is at
    hand in a child.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._have_lookups()

    def time(self) -> float:
        # Of the real clock: whoever freezes that of asyncio's loops freezes the caller's, and not what is done for him.
        return monotonic()

    def end_waiting(self) -> None:
        """Wait for no socket any more: that met an error, and would again while the tasks are ended."""
        self._selector.close()
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()

    def end_lookups(self) -> None:
        """Join the threads that resolved host names, but for one that hangs, and have others from now on."""
        ending = threading.Thread(target=self._lookups.shutdown, daemon=True)
        ending.start()
        ending.join(_LOOKUPS_END)
        self._have_lookups()

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # asyncio joins these threads by another one. Python 3.12 starts none while the interpreter ends, which joins
        # them anyway.
        self._lookups.shutdown(wait=False)

    def _have_lookups(self) -> None:
        self._lookups = ThreadPoolExecutor(thread_name_prefix="hybrid_layer-lookup")
        self.set_default_executor(self._lookups)
