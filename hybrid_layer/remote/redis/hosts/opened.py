"""The connections that one host handed out, so that those to a replaced server can be closed."""

from __future__ import annotations

import asyncio
import weakref
from typing import Generic, TypeVar

from hybrid_layer.identity import PerProcess
from hybrid_layer.remote.redis.server.host import AnyConnection

T = TypeVar("T")


class Opened(Generic[T]):
    """The connections that still exist, each with its loop and a note. Any loop and thread may use it."""

    def __init__(self) -> None:
        self._connections: PerProcess[weakref.WeakKeyDictionary[AnyConnection, tuple[asyncio.AbstractEventLoop, T]]] = (
            PerProcess()
        )

    def add(self, connection: AnyConnection, note: T) -> None:
        """Remember `connection`, which the running loop is going to use, as long as it is referenced elsewhere."""
        self._connections.get(weakref.WeakKeyDictionary)[connection] = (asyncio.get_running_loop(), note)

    def all(self) -> list[tuple[AnyConnection, asyncio.AbstractEventLoop, T]]:
        """The connections of this process."""
        own = self._connections.peek()
        if own is None:
            return []
        # The keys are copied in one step: other threads may add some.
        return [(connection, *own[connection]) for key in own.keyrefs() if (connection := key()) is not None]
