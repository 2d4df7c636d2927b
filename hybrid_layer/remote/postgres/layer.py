# SPDX-License-Identifier: BSD-3-Clause
"""The remote layer over PostgreSQL, and the transport for any layer with such hosts."""

from __future__ import annotations

from functools import partial

from hybrid_layer.base import BaseLayer
from hybrid_layer.configuration import ServerOptions, takes
from hybrid_layer.policy import Policy
from hybrid_layer.remote.delivery.machine_delivery import check_shards
from hybrid_layer.remote.options import Encode, PostgresOptions, delivery_options
from hybrid_layer.remote.postgres.hosts import parse_hosts
from hybrid_layer.remote.postgres.store import PostgresStore
from hybrid_layer.remote.process import Process
from hybrid_layer.remote.transport import RemoteTransport
from hybrid_layer.transport import Machine


def postgres_transport(
    policy: Policy, options: ServerOptions, mode: str, encode: Encode, machine: Machine | None = None
) -> RemoteTransport:
    """The transport over the databases that `options` name. Raises `ConfigurationError`."""
    hosts = parse_hosts(options)
    if machine is not None:
        check_shards(len(hosts))
    labels, open_store = [host.label for host in hosts], partial(PostgresStore, hosts=hosts)
    return RemoteTransport(
        partial(Process, policy, delivery_options(options, mode, encode), labels, open_store, machine)
    )


class PostgresChannelLayer(BaseLayer):
    """Channels and groups over one or several PostgreSQL databases.

    With ``remote="queue"``, messages wait in tables. With ``remote="pubsub"``, messages to process-specific channels
    and groups are published by NOTIFY instead, and reach only processes that are connected at that moment.

    The constructor raises `ConfigurationError` for an option that is unknown, of the wrong type or out of range. The
    process connects at the first call.
    """

    @takes(PostgresOptions)
    def __init__(self, options: PostgresOptions) -> None:
        super().__init__(options)
        self._group_transport = postgres_transport(self._policy, options, options.remote, self._codec.encode)
        self._transports = (self._group_transport,)
