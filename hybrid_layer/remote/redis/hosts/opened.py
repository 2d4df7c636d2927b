"""The connections that one host handed out, so that those to a server which was replaced can be closed."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Generic, TypeVar

from hybrid_layer import identity
from hybrid_layer.remote.redis.server.server import AnyConnection

T = TypeVar("T")


class Opened(Generic[T]):
    """Those that are still there, each with the loop that uses it and a note. Any loop and thread may use it."""

    def __init__(self) -> None:
        self._begin()

    def add(self, connection: AnyConnection, note: T) -> None:
        """Remember `connection`, which the running loop is going to use, for as long as somebody else does."""
        if not self._process.is_current():  # a forked child leaves its parent's alone
            self._begin()
        with self._lock:
            self._connections[connection] = (asyncio.get_running_loop(), note)

    def all(self) -> list[tuple[AnyConnection, asyncio.AbstractEventLoop, T]]:
        """The connections of this process."""
        if not self._process.is_current():
            return []
        with self._lock:
            return [(connection, loop, note) for connection, (loop, note) in self._connections.items()]

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._connections: weakref.WeakKeyDictionary[AnyConnection, tuple[asyncio.AbstractEventLoop, T]] = (
            weakref.WeakKeyDictionary()
        )
        self._process = identity.this_process()
