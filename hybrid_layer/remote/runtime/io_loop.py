# SPDX-License-Identifier: BSD-3-Clause
"""The event loop of the I/O thread, which outlives that thread over a fork."""

from __future__ import annotations

import asyncio
import os
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

    _selector: selectors.DefaultSelector

    def __init__(self) -> None:
        super().__init__(selectors.DefaultSelector())
        self._have_lookups()

    def time(self) -> float:
        # The real clock: a test that freezes asyncio's clock freezes the caller's loop, not the work done for it here.
        return monotonic()

    def end_waiting(self) -> None:
        """Stop waiting for sockets: that met an error, and would again while the tasks end."""
        self._selector.close()
        self._selector = selectors.DefaultSelector()

    def close_in_child(self) -> None:
        """Close the loop in a forked child, which shares the selector with its parent."""
        # Else the parent would stop listening for what the child closes in it.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, self._selector.fileno(), inheritable=False)
        os.close(null)
        self.close()

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
