# SPDX-License-Identifier: BSD-3-Clause
"""A server behind a host name, which may lead to another server at any time.

Managed servers change the name at a failover. The replaced server may continue to answer, as a replica or even as a
primary, and a connection to it would stay: pub/sub meets no refusal, and a primary refuses nothing at all. So a task in
the I/O thread resolves the name repeatedly and closes connections to other servers. Their users open new ones by name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import weakref
from typing import Any

from redis.asyncio.connection import UnixDomainSocketConnection
from redis.exceptions import RedisError

from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.handshake import greet
from hybrid_layer.remote.redis.server.host import AnyConnection, Host, Opened
from hybrid_layer.remote.redis.server.replies import in_info
from hybrid_layer.remote.redis.server.server import Server
from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.timers import sleep, time_limit

logger = logging.getLogger("hybrid_layer")

_LEAST_PAUSE = 0.5
"""Least seconds between two checks. Also used after a change, when connections to the old server may still open."""

Address = tuple[Any, ...]
"""Host and port of a socket's other end. IPv6 adds more, which may differ."""


class NamedHost(Host):
    """A host that is found by its name. Its connections are closed when the name leads elsewhere."""

    def __init__(self, server: Server, timeout: float) -> None:
        self.label = server.label
        self.read_timeout = server.read_timeout
        self._server = server
        self._timeout = timeout
        self._opened: Opened[None] = Opened()
        # Half the timeout, so that all connections reach another server within `timeout`.
        self._watch = _Watch(self, max(timeout / 2, _LEAST_PAUSE))
        self._addresses: set[Address] = set()
        """Where the name led when a server last answered there."""
        self._servers: dict[Address, bytes] = {}
        """The ``run_id`` of the server behind each address, as far as known; empty where it does not say."""

    async def connection(self) -> AnyConnection:
        self._watch.settle()
        connection = self._server.new_connection()
        self._opened.add(connection, None)
        return connection

    def invalidate(self, cause: object = None) -> None:
        """As `Host.invalidate`. The caller will resolve the name itself; other connections may have to be closed."""
        self._watch.wake()

    async def check(self) -> bool:
        """Resolve the name, and close the connections that lead elsewhere. True if there were any.

        Closes nothing before a server answers at the new address: a server that serves is better than none.
        """
        try:
            found = await asyncio.get_running_loop().getaddrinfo(*self._server.address, type=socket.SOCK_STREAM)
        except OSError:
            return False  # the resolver fails, which is no reason to leave a server that serves
        except RuntimeError:
            return False  # the interpreter is ending and starts no more look-ups
        addresses = {each[4][:2] for each in found}
        if addresses == self._addresses and not self._strays(addresses):
            return False
        try:
            async with time_limit(self._timeout):
                peer, run_id = await self._who_answers()
        except (RedisError, OSError, TimeoutError):
            return False
        if peer not in addresses:
            return True  # the name is changing just now
        self._addresses = addresses
        known = addresses | {_peer(connection) for connection, _, _ in self._opened.all()}
        self._servers = {peer: run_id, **{at: each for at, each in self._servers.items() if at in known - {peer}}}
        strays = self._strays(addresses)
        for connection, loop in strays:
            sockets.abort(connection, loop)
        if strays:
            logger.info("The name %s leads to another server now; connections to the old one were closed.", self.label)
        return bool(strays)

    def _strays(self, addresses: set[Address]) -> list[tuple[AnyConnection, asyncio.AbstractEventLoop]]:
        """The connections that lead neither to one of `addresses` nor to a server that also has one of them."""
        # Some resolvers return a few of many addresses of one server, and others each time.
        servers = {self._servers.get(address) for address in addresses} - {None, b""}
        return [
            (connection, loop)
            for connection, loop, _ in self._opened.all()
            if (peer := _peer(connection)) and peer not in addresses and self._servers.get(peer) not in servers
        ]

    async def _who_answers(self) -> tuple[Address, bytes]:
        """The address that a new connection reaches, and the ``run_id`` of the server there."""
        connection = self._server.new_connection()
        try:
            (reply,) = await greet(connection, [("INFO", "server")])
            return _peer(connection), in_info(reply, b"run_id")
        finally:
            await sockets.close(connection)


class _Watch(ResidentTask):
    """Checks repeatedly where the name of `host` leads. Does not keep the host alive."""

    _what = "the watch over a host name"

    def __init__(self, host: NamedHost, pause: float) -> None:
        super().__init__()
        self._host = weakref.ref(host)
        self._pause = pause
        weakref.finalize(host, self.abort).atexit = False

    async def _run(self) -> None:
        is_settled = False  # the first check comes soon, to learn which server the first connections lead to
        while True:
            await sleep(_LEAST_PAUSE)
            if is_settled:
                await self._wait(self._pause - _LEAST_PAUSE)
            host = self._host()
            if host is None:
                return
            is_settled = not await host.check()
            del host


def may_move(server: Server) -> bool:
    """Whether `server` has a host name, which could lead elsewhere some day."""
    if server.connection_class is UnixDomainSocketConnection:
        return False
    name = server.address[0].rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def _peer(connection: AnyConnection) -> Address:
    """The address of the other end; empty while `connection` is not open."""
    writer = connection._writer
    peer = None if writer is None else writer.get_extra_info("peername")
    return peer[:2] if peer else ()
