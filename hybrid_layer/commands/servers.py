# SPDX-License-Identifier: BSD-3-Clause
"""Questions to the servers of a layer. Here alone the commands know that there are kinds of servers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hybrid_layer.configuration import ServerOptions
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.options import are_databases
from hybrid_layer.remote.server_state import ServerState

__all__ = ["ServerState", "look", "names_on_each"]


def names_on_each(servers: ServerOptions, start: str) -> list[str]:
    """For each server, the name of a channel whose queue is there. All begin with `start`."""
    if are_databases(servers):
        from hybrid_layer.remote.postgres import hosts as databases

        shards = len(databases.parse_hosts(servers))
    else:
        from hybrid_layer.remote.redis.hosts.hosts import parse_hosts

        hosts = parse_hosts(servers)
        shards = len(hosts) if isinstance(hosts, tuple) else 1  # only Sentinels know how many
    found: dict[int, str] = {}
    for name in _names(start):
        found.setdefault(shard_for(name, shards), name)
        if len(found) == shards:
            break
    return list(found.values())


def _names(start: str) -> Iterator[str]:
    return (f"{start}.{number}" for number in itertools.count())


async def look(servers: ServerOptions, prefix: str, timeout: float, *, count_keys: bool = True) -> list[ServerState]:
    """The state of each server. One that is down is in the list, too; none is waited for longer than `timeout`."""
    if are_databases(servers):
        from hybrid_layer.remote.postgres.inspection import inspect
    else:
        from hybrid_layer.remote.redis.inspection import inspect
    return await inspect(servers, prefix, timeout, count_keys)
