# SPDX-License-Identifier: BSD-3-Clause
"""What an entry of `hosts` leads to, the error if that fails, and the connections that it handed out."""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from redis.asyncio.connection import Connection, UnixDomainSocketConnection

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.identity import PerProcess
from hybrid_layer.remote.redis.server.errors import cause_of

T = TypeVar("T")

AnyConnection = Connection | UnixDomainSocketConnection


class Host(ABC):
    """An entry of `hosts`: something that leads to a server."""

    __slots__ = ()

    label: str
    """Its name in errors and logs. Contains no password."""
    tag: str = ""
    """The hash tag of all its keys if it is part of a cluster; else empty."""
    read_timeout: float | None
    """The user's `socket_timeout`, in seconds."""
    switch_after: float | None = None
    """Seconds to wait for a connection, since another server may have taken over; None if none can.

    A call that was not sent yet is then tried again until its deadline.
    """

    async def endpoint(self) -> Host:
        """Where sending connections lead. Hosts with the same endpoint object share them. Raises as `connection`."""
        return self

    @abstractmethod
    async def connection(self) -> AnyConnection:
        """A new connection to the server, not opened yet. Raises `RedisError` or `OSError` if no server is found."""

    def invalidate(self, cause: object = None) -> None:  # noqa: B027  # nothing leads elsewhere but to a plain server
        """Note that the server behind `endpoint` and `connection` does not serve; `cause` may be its refusal."""


def open_within(host: Host, timeout: float) -> float:
    """Seconds that a try to connect may take, for a call with this `timeout` in seconds."""
    return timeout if host.switch_after is None else min(timeout, host.switch_after)


def unavailable(host: Host, cause: object) -> RemoteUnavailable:
    """The error for a server that failed, with its name and the cause."""
    return RemoteUnavailable(f"The server {host.label} is not available: {cause_of(cause, bool(host.tag))}")


class Opened(Generic[T]):
    """The connections of one host that still exist, each with its loop and a note. Any loop and thread may use it."""

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
