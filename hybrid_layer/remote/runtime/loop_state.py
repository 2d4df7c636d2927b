"""What one event loop has for one layer: its connections, its readers, and what ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.runtime import io_thread

_LIVING_AGE = 1.0
"""Seconds after which a loop is taken for one that stays."""
_LIVING_CALLS = 20
"""Calls after which it is, too. By the I/O thread, so many take about as long as to open a connection."""


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
