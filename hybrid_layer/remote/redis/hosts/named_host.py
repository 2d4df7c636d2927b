"""A server behind a host name, which may lead to another server from one moment to the next.

Managed servers do that at a failover; what they replaced may go on answering, as a replica or even as a primary. Who is
connected to it would stay there: pub/sub meets no refusal, and a primary refuses nothing at all. So `name_watch`
resolves the name again and again, and what is connected elsewhere is closed, to be opened by the name anew.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from typing import Any

from redis.asyncio.connection import UnixDomainSocketConnection
from redis.exceptions import RedisError

from hybrid_layer.remote.redis.hosts.name_watch import NameWatch
from hybrid_layer.remote.redis.hosts.opened import Opened
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.handshake import greet
from hybrid_layer.remote.redis.server.server import AnyConnection, Server
from hybrid_layer.timers import time_limit

logger = logging.getLogger("hybrid_layer")

_LEAST_PAUSE = 0.5
"""Seconds between two looks at the least."""

Address = tuple[Any, ...]
"""Host and port of a socket's other end."""


class NamedHost:
    """A host (`host.Host`) that is found by its name, and left when the name leads elsewhere."""

    tag = ""
    switch_after: float | None = None

    def __init__(self, server: Server, timeout: float) -> None:
        self.label = server.label
        self.read_timeout = server.read_timeout
        self.pause = max(timeout / 2, _LEAST_PAUSE)
        """Seconds between two looks where the name leads: all are to be at another server within `timeout`."""
        self._server = server
        self._timeout = timeout
        self._opened: Opened[None] = Opened()
        self._watch = NameWatch(self)
        self._addresses: set[Address] = set()
        """Where the name led when somebody answered there."""
        self._servers: dict[Address, bytes] = {}
        """Which server answers where, as far as known: its ``run_id``, or nothing where it does not say."""

    async def endpoint(self) -> NamedHost:
        """See `host.Host`."""
        return self

    async def connection(self) -> AnyConnection:
        """See `host.Host`."""
        self._watch.settle()
        connection = self._server.new_connection()
        self._opened.add(connection, None)
        return connection

    def invalidate(self, cause: object = None) -> None:
        """See `host.Host`. Who was refused resolves the name by itself; the others may still be there."""
        self._watch.look_now()

    async def look(self) -> bool:
        """Look where the name leads, and close the connections that lead elsewhere. True if there were any.

        Nothing is closed before somebody answers at the new place: a server that serves is better than none.
        """
        try:
            found = await asyncio.get_running_loop().getaddrinfo(*self._server.address, type=socket.SOCK_STREAM)
        except OSError:
            return False  # it is the resolver that fails, which is no reason to leave a server that serves
        addresses = {_address(each[4]) for each in found}
        if addresses == self._addresses and not self._strays(addresses):
            return False
        try:
            async with time_limit(self._timeout):
                peer, run_id = await self._who_answers()
        except (RedisError, OSError, TimeoutError):
            return False
        if peer not in addresses:
            return True  # the name is just about to change
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
        """The connections that do not lead to one of `addresses`, nor to a server that has one of them as well."""
        # Some resolvers name only some of many ways that lead to the same server, and others each time.
        servers = {self._servers.get(address) for address in addresses} - {None, b""}
        return [
            (connection, loop)
            for connection, loop, _ in self._opened.all()
            if (peer := _peer(connection)) and peer not in addresses and self._servers.get(peer) not in servers
        ]

    async def _who_answers(self) -> tuple[Address, bytes]:
        """Where a new connection leads, and to which server."""
        connection = self._server.new_connection()
        try:
            (reply,) = await greet(connection, [("INFO", "server")])
            text = reply if isinstance(reply, bytes) else b""  # managed servers may forbid the question
            run_ids = [line[7:].strip() for line in text.splitlines() if line.startswith(b"run_id:")]
            return _peer(connection), run_ids[0] if run_ids else b""
        finally:
            sockets.closing(sockets.descriptor_of(connection))
            await sockets.close(connection)


def may_move(server: Server) -> bool:
    """Whether `server` is found by a name that could lead elsewhere some day."""
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


def _address(end: tuple[Any, ...]) -> Address:
    return end[:2]  # those of IPv6 have more, which need not be the same


def _peer(connection: AnyConnection) -> Address:
    """Where `connection` leads; empty while it is not open."""
    writer = connection._writer
    peer = None if writer is None else writer.get_extra_info("peername")
    return _address(peer) if peer else ()
