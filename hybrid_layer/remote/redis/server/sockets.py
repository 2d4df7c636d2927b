"""The sockets that this process has open to servers, so that a forked child can let go of them unharmed.

A child must neither write to an inherited socket nor close it through its event loop: the loop's selector is shared
with the parent, which would stop listening. So the child puts /dev/null in the socket's place. Whatever object of the
parent still refers to it then closes that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from hybrid_layer import identity
from hybrid_layer.loops import leave_pending

_open: dict[int, tuple[int, int]] = {}
"""Descriptors, with device and inode: a child that hears of the fork late may have other files there."""
_AWAITS = 5
"""More than any clean-up has, one inside the other."""


def descriptor_of(connection: AbstractConnection) -> int:
    """The file descriptor of an open connection; -1 when there is none."""
    # redis-py offers no public way to its socket.
    writer = connection._writer
    sock = None if writer is None else writer.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())


def opened(descriptor: int) -> None:
    """Remember a socket."""
    if descriptor >= 0:
        _open[descriptor] = _file_at(descriptor)


def closing(descriptor: int) -> None:
    """Forget a socket, which its owner is about to close."""
    _open.pop(descriptor, None)


async def close(connection: AbstractConnection | None) -> None:
    """Close a connection, all of whose replies are in hand or given up."""
    if connection is None:
        return
    if connection._writer is not None and _below_tls(connection._writer.transport) is not connection._writer.transport:
        # TLS would take leave in several steps, for which a loop that ends does not stay.
        connection._writer.transport.abort()
    try:
        await connection.disconnect(nowait=True)
    except (RedisError, OSError, TimeoutError):
        pass


def abort(connection: AbstractConnection, loop: asyncio.AbstractEventLoop) -> None:
    """Have `loop`, in which somebody uses `connection`, close it; that one sees it break."""

    def close() -> None:
        if connection._writer is not None:
            connection._writer.transport.abort()

    try:
        loop.call_soon_threadsafe(close)
    except RuntimeError:  # the loop is closed
        pass


def abort_orphan(connection: AbstractConnection | None, *tasks: asyncio.Task[Any] | None) -> None:
    """Close a connection whose event loop was closed without notice, and end the tasks that used it."""
    # Neither redis-py nor asyncio can close what belongs to a closed loop; both would complain of it for ever.
    if connection is not None and connection._writer is not None:
        _take_apart(connection)
    for task in tasks:
        if task is not None:
            leave_pending(task)
            _end(task)


def _take_apart(connection: Any) -> None:
    closing(descriptor_of(connection))
    transport = connection._writer.transport
    try:
        transport.abort()
    except RuntimeError:  # the loop is closed; but now the transport is too, in its own eyes
        pass
    connection._reader = connection._writer = None
    transport = _below_tls(transport)
    sock = getattr(transport, "_sock", None)
    if sock is not None:  # else it is uvloop's, which closes its transports with the loop
        sock.close()
        transport._sock = None


def _end(task: asyncio.Task[Any]) -> None:
    """Close the coroutine of `task`, which would be closed as garbage, and then complain."""
    coroutine = task.get_coro()
    for _ in range(_AWAITS):
        try:
            if isinstance(coroutine, Coroutine):
                coroutine.close()
            return
        except (RuntimeError, RedisError, OSError):
            pass  # it awaited something in its clean-up, for which there is no loop


def _below_tls(transport: Any) -> Any:
    """The transport of the socket itself."""
    protocol = getattr(transport, "_ssl_protocol", None)
    return transport if protocol is None else protocol._transport


def _file_at(descriptor: int) -> tuple[int, int]:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _detach() -> None:
    if not _open:
        return
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor, file in _open.items():
        if _file_at(descriptor) == file:
            os.dup2(null, descriptor, inheritable=False)
    os.close(null)
    _open.clear()


identity.in_child(_detach)
