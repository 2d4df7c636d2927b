# SPDX-License-Identifier: BSD-3-Clause
"""The options of the remote half, checked."""

from __future__ import annotations

from dataclasses import dataclass, fields

from hybrid_layer.configuration import ServerOptions
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.options import Encode, delivery_options
from hybrid_layer.remote.redis.hosts.hosts import parse_hosts
from hybrid_layer.remote.redis.hosts.named_host import NamedHost, may_move
from hybrid_layer.remote.redis.hosts.sentinel import Sentinels
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.server.server import Server


@dataclass(frozen=True, slots=True)
class RemoteOptions(DeliveryOptions):
    """The options from which the remote half over Redis is built."""

    hosts: tuple[Host, ...] | Sentinels = ()
    """The hosts, or what finds them at the first call."""


def remote_options(options: ServerOptions, mode: str, encode: Encode) -> RemoteOptions:
    """As `delivery_options`, with the hosts. Raises `ConfigurationError`."""
    found = parse_hosts(options)

    def watched(host: Host) -> Host:
        return NamedHost(host, options.timeout) if isinstance(host, Server) and may_move(host) else host

    hosts = found if isinstance(found, Sentinels) else tuple(map(watched, found))
    shared = delivery_options(options, mode, encode)
    return RemoteOptions(**{each.name: getattr(shared, each.name) for each in fields(shared)}, hosts=hosts)
