"""The streams of machines in `tests/support/memory_store.py`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hybrid_layer.clock import boottime
from hybrid_layer.loops import call_in
from hybrid_layer.remote.delivery.replies import Entry, Note, StreamItem
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.timers import time_limit
from hybrid_layer.transport import Position
from tests.support.waiting import turns

_UNTRIMMED = 64
"""Entries that were taken in and have a place until they are trimmed."""


class AliveKey(NamedTuple):
    """What the server knows of a machine."""

    registration: int
    inboxes: int


class MemoryStream:
    """The inbox of one machine."""

    def __init__(self) -> None:
        self.items: list[StreamItem] = []
        self.last = Position(0, 0)

    def add(self, entry: Entry | None = None, note: Note | None = None, group: str = "", t: int = 0) -> None:
        """Append one entry, with an id above all others."""
        now = Position(int(boottime() * 1000), 0)
        self.last = now if now > self.last else Position(self.last.ms, self.last.sequence + 1)
        self.items.append(StreamItem(self.last, entry, note, group, t))

    def make_room(self, capacity: int, inboxes: int) -> tuple[bool, int]:
        """Whether there is room for a message, and how many expired entries were dropped for it."""
        room, expired = capacity * inboxes + _UNTRIMMED, 0
        while len(self.items) >= room:
            entry = self.items[0].entry
            if entry is None or entry.stamp_ms > boottime() * 1000:
                break
            del self.items[0]
            expired += 1
        return len(self.items) < room, expired

    def after(self, position: Position, count: int) -> list[StreamItem]:
        """The first entries above `position`."""
        return list(itertools.islice((item for item in self.items if item.id > position), count))

    def trim(self, position: Position) -> None:
        """Remove the entries below `position`."""
        self.items = [item for item in self.items if item.id >= position]


class MemoryStreamReader:
    """Implements `StreamReader`."""

    def __init__(
        self,
        stream: Callable[[], MemoryStream],
        add: Callable[[MemoryStreamReader], None],
        remove: Callable[[MemoryStreamReader], None],
        block_time: float,
    ) -> None:
        self._stream = stream
        self._add, self._remove = add, remove
        self._block_time = block_time
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_open = False

    async def connect(self) -> bool:
        was_open, self._is_open = self._is_open, True
        self._add(self)
        return not was_open

    async def read(self, after: Position, count: int) -> Sequence[StreamItem]:
        if not self._is_open:
            raise ReadingLost("there is no connection")
        try:
            async with time_limit(self._block_time):
                while True:
                    self._news.clear()
                    found = self._stream().after(after, count)
                    if found:
                        return found
                    await self._news.wait()
        except TimeoutError:
            return []
        except asyncio.CancelledError:
            await self.close()
            raise

    def wake(self) -> None:
        call_in(self._loop, self._news.set)

    async def pause(self, cause: ReadingLost) -> None:
        await turns()

    async def close(self) -> None:
        self._is_open = False
        self._remove(self)
