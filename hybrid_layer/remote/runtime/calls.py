# SPDX-License-Identifier: BSD-3-Clause
"""Decides in which event loop a call to a server is made.

There are two tiers. A loop that stays has its own connection to each server: it has waited in `receive()`, is older
than a second or has made twenty calls. The other loops hand their calls to the I/O thread, whose loop has connections,
too. So a process has at most one sending connection per server for each such loop, and one per server for the I/O
thread.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from hybrid_layer.clock import monotonic
from hybrid_layer.loops import LoopLocal, call_in
from hybrid_layer.remote.runtime import io_thread

_STAYS_AFTER = 1.0
"""Seconds after which a loop counts as one that stays."""
_STAYS_AFTER_CALLS = 20
"""Calls after which it does, too. Through the I/O thread, they take about as long as opening a connection."""

C = TypeVar("C")

Shape = Callable[[object], bool]
"""Says whether a reply is usable."""


class LoopReader(Protocol):
    """A reader of normal channels in one event loop: a `delivery.queue_reader.QueueReader`."""

    async def receive(self, channel: str) -> bytes:
        """Wait for the next message of `channel`."""

    def is_awaited(self) -> bool:
        """Whether a coroutine waits here."""

    async def close(self) -> None:
        """End the reading, without losing messages."""

    def abort(self) -> None:
        """End the reading at once."""


class LoopState:
    """What one event loop has open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connections: dict[int, Any] = {}
        """The store's sending connections by shard. Several shards may share one. Each has `close()` and `abort()`."""
        self.readers: dict[int, LoopReader] = {}
        """By shard."""
        self.on_loop_end: list[Callable[[], None]] = []
        """Callbacks that end the blocking readers of the loop at once."""
        self._born = monotonic()
        self.forwarded = 0
        """Calls that the I/O thread has made for the loop."""
        self.forwarding = 0
        """Such calls under way."""
        self.drained = asyncio.Event()
        """Set when no such call is under way."""
        self.calls = 0
        """Calls under way on the loop's own connections."""
        self.is_thread = io_thread.is_here()
        self.lasts = self.is_thread
        """It waits in `receive()`, or has done enough to be taken for one that stays."""
        self.ending = False
        """The loop's tasks are being cancelled."""

    def stays(self) -> bool:
        """Whether the loop is worth connections of its own."""
        if self.ending:
            return False
        if not self.lasts:
            self.lasts = self.forwarded >= _STAYS_AFTER_CALLS or monotonic() - self._born > _STAYS_AFTER
        return self.lasts

    def abort(self) -> None:
        """Close everything at once, since the loop is ending."""
        self.ending = True
        for reader in self.readers.values():
            reader.abort()
        for end in list(self.on_loop_end):
            end()
        for connection in set(self.connections.values()):
            connection.abort()


class Calls(ABC, Generic[C]):
    """The calls of one layer in one process. `C` is what a server executes: a command, a statement."""

    def __init__(self, loops: LoopLocal[LoopState], timeout: float) -> None:
        self.loops = loops
        self.timeout = timeout
        self._abandoned = False

    @abstractmethod
    async def _call(self, here: LoopState, shard: int, call: C, deadline: float, shape: Shape | None) -> Any:
        """Make `call` in the running loop, whose state is `here`. Raises `RemoteUnavailable` by `deadline`."""

    async def run(self, shard: int, call: C, shape: Shape | None = None) -> Any:
        """The reply to `call` from the server of `shard`. Raises `RemoteUnavailable` within the timeout.

        `shape` says which replies are usable. Any other reply raises `RemoteUnavailable`, too.
        """
        here = self.loops.get()
        deadline = monotonic() + self.timeout
        if here.stays() or here.is_thread:
            while here.forwarding:  # the loop has only just begun to count as one that stays; earlier calls come first
                await here.drained.wait()
            return await self._run(here, shard, call, deadline, shape)
        here.forwarded += 1
        here.forwarding += 1
        here.drained.clear()
        try:
            return await io_thread.current().run(
                lambda: self._run(self.loops.get(), shard, call, deadline, shape), self.timeout
            )
        finally:
            here.forwarding -= 1
            if not here.forwarding:
                here.drained.set()

    def run_later(self, shard: int, call: C) -> None:
        """Have the I/O thread make `call`. The reply is ignored."""
        deadline = monotonic() + self.timeout
        future = io_thread.current().submit(lambda: self._run(self.loops.get(), shard, call, deadline, None))
        future.add_done_callback(lambda done: None if done.cancelled() else done.exception() and None)

    async def close(self) -> None:
        """Close the running loop's connections, after the replies under way."""
        here = self.loops.peek(asyncio.get_running_loop())
        if here is not None:
            await asyncio.gather(*(connection.close() for connection in set(here.connections.values())))

    def abort(self) -> None:
        """Close everything, in every loop, for a layer that is garbage."""
        self._abandoned = True
        for state in self.loops.all():
            call_in(state.loop, partial(self._drop_if_idle, state))

    async def _run(self, here: LoopState, shard: int, call: C, deadline: float, shape: Shape | None) -> Any:
        here.calls += 1
        try:
            return await self._call(here, shard, call, deadline, shape)
        finally:
            here.calls -= 1
            if self._abandoned:
                self._drop_if_idle(here)

    def _drop_if_idle(self, here: LoopState) -> None:
        # Unfinished calls of the layer, such as putting a message back, end before its connections are closed.
        if not here.calls:
            self.loops.drop(here.loop)
