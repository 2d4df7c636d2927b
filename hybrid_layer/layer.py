# SPDX-License-Identifier: BSD-3-Clause
"""The hybrid layer: a local half, a remote half, and a router between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from re import Pattern
from typing import Any

from hybrid_layer.base import BaseLayer
from hybrid_layer.configuration import ServerOptions, option, takes
from hybrid_layer.discretion import described_names
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc.layer import MemoryOptions, local_transport
from hybrid_layer.names import check_channel, machine_of
from hybrid_layer.options import one_of, shown
from hybrid_layer.router import Route, Router
from hybrid_layer.statistics import ChannelStatistics
from hybrid_layer.transport import RemoteHalf, Transport


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class HybridOptions(MemoryOptions, ServerOptions):
    """Options of both halves, and of the router."""

    routes: Mapping[str | Pattern[str], str] | None = None
    remote: str = option("queue", partial(one_of, choices=("queue", "pubsub")))
    locality: str = option("name", partial(one_of, choices=("name", "machine")))


class HybridChannelLayer(BaseLayer):
    """Normal channels travel through shared memory, process-specific channels and groups over servers.

    Without `hosts` everything stays on this machine and no server is needed. With `hosts`, a list as
    `hybrid_layer.remote.RedisChannelLayer` takes it, processes on several machines reach each other. `routes` then
    selects normal channels that travel over the servers, too.

    With ``locality="machine"``, new channels are named after the machine. Then their messages travel through shared
    memory, too, unless they come from another machine; and a group's message crosses the server once for each machine.
    Both kinds of names may be used at once: `locality` only decides which names `new_channel` makes.

    Both halves share one policy of capacity and expiry. The constructor raises `ConfigurationError` for an option that
    is unknown, of the wrong type, out of range, or given without the `hosts` that it needs.
    """

    @takes(HybridOptions)
    def __init__(self, options: HybridOptions) -> None:
        super().__init__(options)
        self._local = self._group_transport = local_transport(self._policy, options)
        self._transports = (self._local,)
        self._remote: RemoteHalf | None = None
        self._router = Router(options.routes)
        self._names_machine = options.locality == "machine"
        self._reports_outages = options.on_disconnect is not None or options.on_reconnect is not None
        if self._names_machine and options.remote == "pubsub":
            raise ConfigurationError(
                "locality='machine' needs remote='queue': a machine's messages wait on the servers until it reads them."
            )
        if options.hosts is not None:
            self._remote = self._connect(options)
            self._group_transport = self._remote
            self._transports = (self._local, self._remote)
        elif options.services is not None:
            raise ConfigurationError(
                f"services={described_names(options.services)} needs hosts: the Sentinels that know them."
            )
        elif options.routes:
            raise ConfigurationError(
                f"routes={shown(options.routes)} needs hosts; without them every channel is local."
            )

    async def send(self, channel: str, message: dict[str, Any], *, expiry: float | None = None) -> None:
        """As `BaseLayer.send`."""
        if self._remote is not None and machine_of(check_channel(channel)):
            await self._local.joined()  # shared memory tells whether the channel is this machine's
        await super().send(channel, message, expiry=expiry)

    async def send_multiple(self, channel: str, messages: Iterable[dict[str, Any]]) -> None:
        """As `BaseLayer.send_multiple`."""
        if self._remote is not None and machine_of(check_channel(channel)):
            await self._local.joined()
        await super().send_multiple(channel, messages)

    async def channel_statistics(self, channel: str) -> ChannelStatistics:
        """As `BaseLayer.channel_statistics`."""
        if self._remote is not None and machine_of(check_channel(channel)):
            await self._local.joined()  # as in `send`
        return await super().channel_statistics(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        """As `BaseLayer.receive`."""
        if self._remote is not None:
            # The process that added a normal channel to a group may be gone; the channel's readers serve the group.
            self._remote.serve_machine()
            if self._reports_outages and machine_of(check_channel(channel)):
                self._remote.waits(channel)
        return await super().receive(channel)

    async def _process_id(self) -> str:
        if not self._names_machine:
            return self._own_id()
        return f"{(await self._local.joined()).segment.machine}-{self._own_id()}"

    async def _open_inbox(self, inbox: str) -> None:
        await super()._open_inbox(inbox)
        if self._names_machine and self._remote is not None:
            await self._remote.open_machine()

    def _connect(self, options: HybridOptions) -> RemoteHalf:
        # Imported here, so that a site loads no client library that it does not use.
        from hybrid_layer.ipc.machine import LocalMachine
        from hybrid_layer.remote.kinds import kind_of

        router = self._router  # not by way of self, which the remote half must not keep alive
        machine = LocalMachine(self._local, lambda channel: router.route(channel) is Route.LOCAL)
        if kind_of(options.hosts) == "postgresql":
            from hybrid_layer.remote.postgres.layer import postgres_transport

            return postgres_transport(self._policy, options, options.remote, self._codec.encode, machine)
        from hybrid_layer.remote.redis.connect import remote_transport
        from hybrid_layer.remote.redis.options import remote_options

        return remote_transport(self._policy, remote_options(options, options.remote, self._codec.encode), machine)

    def _transport_for(self, channel: str) -> Transport:
        if self._remote is None or self._router.route(channel) is Route.LOCAL:
            return self._local
        return self._local if machine_of(channel) and self._local.owns(channel) else self._remote
