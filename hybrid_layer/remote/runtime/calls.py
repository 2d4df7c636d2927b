"""In which event loop a call to a server is made.

Two tiers. A loop that lives, since it waited in `receive()`, is older than a second or has made twenty calls, has a
connection of its own to each server. The others hand their calls to the I/O thread, whose loop has the same. So a
process has at most one sending connection per server and living loop, and one per server for the I/O thread.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from hybrid_layer.clock import monotonic
from hybrid_layer.loops import LoopLocal
from hybrid_layer.remote.runtime import io_thread

_LIVING_AGE = 1.0
"""Seconds after which a loop is taken for one that stays."""
_LIVING_CALLS = 20
"""Calls after which it is, too. By the I/O thread, so many take about as long as to open a connection."""

C = TypeVar("C")

Shape = Callable[[object], bool]
"""Whether a reply is one that can be used."""


class LoopReader(Protocol):
    """A reader of normal channels in one event loop: a `delivery.queue_reader.QueueReader`."""

    async def receive(self, channel: str) -> bytes:
        """Wait for the next message of `channel`."""

    def is_awaited(self) -> bool:
        """Whether a coroutine waits here."""

    async def close(self) -> None:
        """End the reading, losing nothing."""

    def abort(self) -> None:
        """End the reading at once."""


class LoopState:
    """What one event loop has open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connections: dict[int, Any] = {}
        """The store's sending connections by shard; several shards may have the same. Each has `abort()`."""
        self.readers: dict[int, LoopReader] = {}
        """By shard."""
        self.on_loop_end: list[Callable[[], None]] = []
        """What ends the blocking readers of the loop at once."""
        self._born = monotonic()
        self.forwarded = 0
        """Calls that the I/O thread made for the loop, so far."""
        self.forwarding = 0
        """Those under way."""
        self.drained = asyncio.Event()
        """Set when there are none any more."""
        self.calls = 0
        """Calls under way on the loop's own connections."""
        self.is_thread = io_thread.is_here()
        self._stays = self.is_thread
        self._ends = False

    def stays(self) -> bool:
        """Whether the loop is worth connections of its own."""
        if self._ends:
            return False
        if not self._stays:
            self._stays = self.forwarded >= _LIVING_CALLS or monotonic() - self._born > _LIVING_AGE
        return self._stays

    def will_stay(self) -> None:
        """It waits in `receive()`."""
        self._stays = True

    def ends(self) -> None:
        """Its tasks are being cancelled."""
        self._ends = True

    def abort(self) -> None:
        """Close everything at once, since the loop ends."""
        self.ends()
        for reader in self.readers.values():
            reader.abort()
        for end in list(self.on_loop_end):
            end()
        for connection in set(self.connections.values()):
            connection.abort()


class Calls(ABC, Generic[C]):
    """The calls of one layer in one process. `C` is what a server is asked to do: a command, a statement."""

    def __init__(self, loops: LoopLocal[LoopState], timeout: float) -> None:
        self.loops = loops
        self.timeout = timeout
        self._abandoned = False

    @abstractmethod
    async def _call(self, here: LoopState, shard: int, call: C, deadline: float, shape: Shape | None) -> Any:
        """Make `call` in the running loop, which is `here`. Raises `RemoteUnavailable` by `deadline`."""

    async def run(self, shard: int, call: C, shape: Shape | None = None) -> Any:
        """The reply to `call` from the server of `shard`. Raises `RemoteUnavailable` within the timeout.

        `shape` says which replies can be used; any other is an error of the server.
        """
        here = self.loops.get()
        deadline = monotonic() + self.timeout
        if here.stays() or here.is_thread:
            while here.forwarding:  # the loop has only just turned out to stay; earlier calls come first
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
        """Have the I/O thread make `call`; nobody looks at the reply."""
        deadline = monotonic() + self.timeout
        future = io_thread.current().submit(lambda: self._run(self.loops.get(), shard, call, deadline, None))
        future.add_done_callback(lambda done: None if done.cancelled() else done.exception() and None)

    async def close(self) -> None:
        """Close the running loop's connections, after the replies under way."""
        here = self.loops.peek(asyncio.get_running_loop())
        if here is not None:
            await asyncio.gather(*(connection.close() for connection in set(here.connections.values())))

    def abort(self) -> None:
        """Close everything, in every loop. For a layer that is garbage."""
        self._abandoned = True
        for state in self.loops.all():
            try:
                state.loop.call_soon_threadsafe(self._drop_if_idle, state)
            except RuntimeError:  # the loop is closed
                pass

    async def _run(self, here: LoopState, shard: int, call: C, deadline: float, shape: Shape | None) -> Any:
        here.calls += 1
        try:
            return await self._call(here, shard, call, deadline, shape)
        finally:
            here.calls -= 1
            if self._abandoned:
                self._drop_if_idle(here)

    def _drop_if_idle(self, here: LoopState) -> None:
        # What the layer left to do, such as to put a message back, is done before its connections go.
        if not here.calls:
            self.loops.drop(here.loop)
