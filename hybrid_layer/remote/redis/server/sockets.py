# SPDX-License-Identifier: BSD-3-Clause
"""The sockets that this process has open to servers, so that a forked child can let go of them without harm.

A child must neither write to an inherited socket nor close it through its event loop: the child shares the loop's
selector with the parent, which would stop listening. So the child puts /dev/null in the socket's place. Objects of the
parent that still refer to the descriptor then close /dev/null.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import weakref
from collections.abc import Coroutine
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from hybrid_layer import identity
from hybrid_layer.loops import call_in, leave_pending

_open: weakref.WeakKeyDictionary[AbstractConnection, tuple[int, tuple[int, int]]] = weakref.WeakKeyDictionary()
"""Descriptors, each with device and inode: a child that notices the fork late may have other files there."""
_AWAITS = 5
"""More than any clean-up nests."""


def opened(connection: AbstractConnection) -> None:
    """Remember the socket of `connection`, which was just opened."""
    # redis-py offers no public way to its socket.
    writer = connection._writer
    sock = None if writer is None else writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        _open[connection] = (sock.fileno(), _file_at(sock.fileno()))


async def close(connection: AbstractConnection | None) -> None:
    """Close a connection. Replies that have not arrived are given up."""
    if connection is None:
        return
    _open.pop(connection, None)
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
        own = socket.socket(fileno=sock.fileno())  # uvloop's stand-in takes no options
        with contextlib.suppress(OSError):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        own.detach()


def abort_orphan(connection: AbstractConnection | None, *tasks: asyncio.Task[Any] | None) -> None:
    """Close a connection whose event loop was closed without notice, and end the tasks that used it."""
    # Neither redis-py nor asyncio can close what belongs to a closed loop, and both would keep warning of it.
    if connection is not None and connection._writer is not None:
        _take_apart(connection)
    for task in tasks:
        if task is not None:
            leave_pending(task)
            _end(task)


def _take_apart(connection: Any) -> None:
    _open.pop(connection, None)
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


def _end(task: asyncio.Task[Any]) -> None:
    """Close the coroutine of `task`. Left to the garbage collector, it would warn."""
    coroutine = task.get_coro()
    for _ in range(_AWAITS):
        try:
            if isinstance(coroutine, Coroutine):
                coroutine.close()
            return
        except (RuntimeError, RedisError, OSError):
            pass  # its clean-up awaited something, for which there is no loop


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
    for descriptor, file in list(_open.values()):
        if _file_at(descriptor) == file:
            os.dup2(null, descriptor, inheritable=False)
    os.close(null)
    _open.clear()


identity.in_child(_detach)
