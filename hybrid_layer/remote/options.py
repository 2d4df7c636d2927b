"""The options of the remote half, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_layer.options import positive_number
from hybrid_layer.remote.hosts import Host, parse_hosts
from hybrid_layer.remote.sentinel import AllServices
from hybrid_layer.statistics import warn

HostOption = str | tuple[str, int] | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """What `QueueTransport` is built from."""

    hosts: tuple[Host, ...]
    timeout: float
    """Seconds within which every call ends."""
    block_time: float
    """Seconds for which a reader's pop waits on the server."""
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
) -> RemoteOptions:
    """Check the options as users give them. Raises `ConfigurationError`."""
    if random_prefix_length is not None:
        warn(
            "random_prefix_length",
            "random_prefix_length does nothing: names have as many random characters as they need.",
        )
    positive_number("timeout", timeout)
    positive_number("block_time", block_time)
    found = parse_hosts(hosts, connection_kwargs, block_time, services, sentinel_refresh_interval)
    if isinstance(found, AllServices):
        return RemoteOptions((), timeout, block_time, found)
    return RemoteOptions(found, timeout, block_time)
