# SPDX-License-Identifier: BSD-3-Clause
"""What the verbs of the store need, and those for several messages at once."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.redis.capacities import Capacities
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.knowledge import Knowledge
from hybrid_layer.remote.redis.scripts import Script
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.wire.keys import Keys


def milliseconds(seconds: float) -> int:
    """A life, as scripts take it."""
    return max(1, int(seconds * 1000))


class SeveralAtOnce:
    """The base of `hybrid_layer.remote.redis.store.RedisStore`."""

    def __init__(self, context: Context, hosts: Sequence[Host]) -> None:
        self._context = context
        self._hosts = hosts
        self._keys = [Keys(context.prefix, host.tag) for host in hosts]
        self._known = [Knowledge(shard) for shard in context.shards]
        self._publishes = context.options.mode == "pubsub"
        """Processes are subscribed to their own messages and to those of their groups."""
        self._is_spread = "1" if len(hosts) > 1 else "0"
        """Whether a group and the queue of a member may be on different shards, for the scripts."""
        self._capacities = Capacities(context.policy)
        self.connections = Connections(context, hosts)

    def _run(self, shard: Shard, script: Script, keys: list[str], *args: str | bytes | int) -> Coroutine[Any, Any, Any]:
        return self.connections.run(shard.number, script.command(keys, *args), script.shape)
