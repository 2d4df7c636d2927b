"""The connections that one host handed out, so that those to a replaced server can be closed."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Generic, TypeVar

from hybrid_layer.identity import PerProcess
from hybrid_layer.remote.redis.server.server import AnyConnection

T = TypeVar("T")


class _Connections(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries: weakref.WeakKeyDictionary[AnyConnection, tuple[asyncio.AbstractEventLoop, T]] = (
            weakref.WeakKeyDictionary()
        )


class Opened(Generic[T]):
    """The connections that still exist, each with its loop and a note. Any loop and thread may use it."""

    def __init__(self) -> None:
        self._connections: PerProcess[_Connections[T]] = PerProcess()

    def add(self, connection: AnyConnection, note: T) -> None:
        """Remember `connection`, which the running loop is going to use, as long as it is referenced elsewhere."""
        own = self._connections.get(_Connections)
        with own.lock:
            own.entries[connection] = (asyncio.get_running_loop(), note)

    def all(self) -> list[tuple[AnyConnection, asyncio.AbstractEventLoop, T]]:
        """The connections of this process."""
        own = self._connections.peek()
        if own is None:
            return []
        with own.lock:
            return [(connection, loop, note) for connection, (loop, note) in own.entries.items()]
