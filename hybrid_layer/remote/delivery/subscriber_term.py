"""One event loop's turn at being subscribed for a process."""

from __future__ import annotations

import asyncio
import concurrent.futures

from hybrid_layer.loops import call_in
from hybrid_layer.remote.delivery.store import Subscription
from hybrid_layer.remote.runtime import io_thread


class SubscriberTerm:
    """The subscriptions in one loop, one connection after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.in_thread = io_thread.is_here()
        self.task: asyncio.Task[None] | None = None
        self.subscription: Subscription | None = None
        self.live = False
        """Its connection is subscribed to everything, and delivers."""
        self.mark = b""
        """At which it ends; set while another term takes over."""
        self.leaving = False
        """Its loop ends: another term is to take over."""
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

    def end(self) -> None:
        """End it at once, from any thread."""
        self.given_up = True
        task = self.task
        if task is not None and not call_in(self.loop, task.cancel) and self.subscription is not None:
            self.subscription.cut(task)
