"""The options of the remote half, checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import one_of, positive_number, shown
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.redis.hosts.hosts import Host, parse_hosts
from hybrid_layer.remote.redis.hosts.named_host import NamedHost, may_move
from hybrid_layer.remote.redis.hosts.sentinel import AllServices
from hybrid_layer.remote.redis.server.server import Server
from hybrid_layer.statistics import warn

_MESSAGE_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
"""Channels calls the handler of that name, and refuses a leading underscore."""

HostOption = str | tuple[str, int] | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RemoteOptions(DeliveryOptions):
    """What the remote half is built from, over Redis."""

    hosts: tuple[Host, ...] = ()
    all_services: AllServices | None = None
    """What will tell the hosts, of which there are none before."""


def remote_options(
    *,
    hosts: Sequence[HostOption] | None = None,
    connection_kwargs: Mapping[str, Any] | None = None,
    timeout: float = 5,
    block_time: float = 2,
    services: Sequence[str] | str | None = None,
    sentinel_refresh_interval: float = 0,
    random_prefix_length: object = None,
    remote: str = "queue",
    on_disconnect: str | None = None,
    on_reconnect: str | None = None,
    encode: Callable[[dict[str, Any], str], bytes],
) -> RemoteOptions:
    """Check the options as users give them. Raises `ConfigurationError`. `encode` makes a message a payload."""
    if random_prefix_length is not None:
        warn(
            "random_prefix_length",
            "random_prefix_length does nothing: names have as many random characters as they need.",
        )
    positive_number("timeout", timeout)
    positive_number("block_time", block_time)
    found = parse_hosts(hosts, connection_kwargs, block_time, services, sentinel_refresh_interval)

    def notice(name: str, message_type: object) -> bytes | None:
        if message_type is None:
            return None
        if not isinstance(message_type, str) or not _MESSAGE_TYPE.fullmatch(message_type):
            raise ConfigurationError(
                f"{name} must be the type of the message that consumers are to get, such as 'layer.disconnected', not "
                f"{shown(message_type)}."
            )
        return encode({"type": message_type}, name)

    return RemoteOptions(
        timeout,
        block_time,
        one_of("remote", remote, ("queue", "pubsub")),
        notice("on_disconnect", on_disconnect),
        notice("on_reconnect", on_reconnect),
        () if isinstance(found, AllServices) else tuple(_watched(host, timeout) for host in found),
        found if isinstance(found, AllServices) else None,
    )


def _watched(host: Host, timeout: float) -> Host:
    return NamedHost(host, timeout) if isinstance(host, Server) and may_move(host) else host
