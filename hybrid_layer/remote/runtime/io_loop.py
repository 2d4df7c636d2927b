"""The event loop of the I/O thread, which outlives that thread over a fork."""

from __future__ import annotations

import asyncio
import selectors
import threading
from concurrent.futures import ThreadPoolExecutor

from hybrid_layer.clock import monotonic

_LOOKUPS_END = 3.0
"""Seconds to wait for the end of host name look-ups under way."""


class IOLoop(asyncio.SelectorEventLoop):
    """A selector loop, whatever the event loop policy is.

    Another thread can run it again after a stop, and a forked child can reach its selector.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._have_lookups()

    def time(self) -> float:
        # The real clock: a test that freezes asyncio's clock freezes the caller's loop, not the work done for it here.
        return monotonic()

    def end_waiting(self) -> None:
        """Stop waiting for sockets: that met an error, and would again while the tasks end."""
        self._selector.close()
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()

    def end_lookups(self) -> None:
        """Join the threads that resolve host names, except one that hangs, and use new ones from now on."""
        ending = threading.Thread(target=self._lookups.shutdown, daemon=True)
        ending.start()
        ending.join(_LOOKUPS_END)
        self._have_lookups()

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # asyncio would start a thread to join these. Python 3.12 starts none while the interpreter ends, and joins them
        # anyway.
        self._lookups.shutdown(wait=False)

    def _have_lookups(self) -> None:
        self._lookups = ThreadPoolExecutor(thread_name_prefix="hybrid_layer-lookup")
        self.set_default_executor(self._lookups)
