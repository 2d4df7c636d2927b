# SPDX-License-Identifier: BSD-3-Clause
"""How the connections of redis-py end: at once, in a closed loop, or in a forked child (`runtime.descriptors`)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from hybrid_layer.loops import call_in
from hybrid_layer.remote.runtime import descriptors
from hybrid_layer.remote.runtime.orphans import end_orphan


def opened(connection: AbstractConnection) -> None:
    """Remember the socket of `connection`, which was just opened."""
    # redis-py offers no public way to its socket.
    writer = connection._writer
    sock = None if writer is None else writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        descriptors.opened(connection, sock.fileno())


async def close(connection: AbstractConnection | None) -> None:
    """Close a connection. Replies that have not arrived are given up."""
    if connection is None:
        return
    descriptors.closed(connection)
    if connection._writer is not None and _below_tls(connection._writer.transport) is not connection._writer.transport:
        # TLS closes in several steps, for which an ending loop does not stay.
        connection._writer.transport.abort()
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)


def abort(connection: AbstractConnection, loop: asyncio.AbstractEventLoop) -> None:
    """Have `loop`, in which `connection` is used, close it. Its user sees it break."""

    call_in(loop, lambda: discard(connection))


def discard(connection: AbstractConnection | None) -> None:
    """Close a connection that has failed, in its loop. What was not sent yet never arrives.

    Otherwise the system would go on sending it. When a link that is down now works again, a message would arrive behind
    newer ones, and a pop would take a message for nobody.
    """
    if connection is not None and connection._writer is not None:
        _drop_unsent(connection._writer)
        connection._writer.transport.abort()


def _drop_unsent(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        descriptors.drop_unsent(sock.fileno())  # uvloop's stand-in for a socket takes no options


def abort_orphan(connection: AbstractConnection | None, *tasks: asyncio.Task[Any] | None) -> None:
    """Close a connection whose event loop was closed without notice, and end the tasks that used it."""
    # Neither redis-py nor asyncio can close what belongs to a closed loop, and both would keep warning of it.
    if connection is not None and connection._writer is not None:
        _take_apart(connection)
    for task in tasks:
        if task is not None:
            end_orphan(task)


def _take_apart(connection: Any) -> None:
    descriptors.closed(connection)
    transport = connection._writer.transport
    _drop_unsent(connection._writer)
    with contextlib.suppress(RuntimeError):  # the loop is closed; but now the transport considers itself closed, too
        transport.abort()
    connection._reader = connection._writer = None
    transport = _below_tls(transport)
    sock = getattr(transport, "_sock", None)
    if sock is not None:  # else it is uvloop's, which closes its transports with the loop
        sock.close()
        transport._sock = None


def _below_tls(transport: Any) -> Any:
    """The transport of the socket itself."""
    protocol = getattr(transport, "_ssl_protocol", None)
    return transport if protocol is None else protocol._transport
