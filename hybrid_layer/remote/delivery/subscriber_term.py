"""One event loop's turn at listening for a process: what `listener` knows of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING

from hybrid_layer.remote.runtime import io_thread

if TYPE_CHECKING:
    from hybrid_layer.remote.redis.connections.subscription import Listening


class Seat:
    """The listening in one loop, over one connection after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.in_thread = io_thread.is_here()
        self.task: asyncio.Task[None] | None = None
        self.listening: Listening | None = None
        self.live = False
        """Its connection is subscribed to everything, and delivers."""
        self.mark = b""
        """At which it ends; set while another seat takes over."""
        self.leaving = False
        """Its loop ends: another seat is to take over."""
        self.given_up = False
        """The next cancellation ends it, whatever it misses."""
        self.gone: concurrent.futures.Future[None] = concurrent.futures.Future()
        """Done when it delivers nothing any more."""

    def is_open(self) -> bool:
        """Whether questions may be asked of it."""
        return self.live and not self.mark

    def is_stuck(self) -> bool:
        """Whether its loop does not run. That of the I/O thread does, or will as soon as a fork is over."""
        return not self.in_thread and not self.loop.is_running()
