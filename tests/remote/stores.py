"""Stores without a layer around them, for tests of what no layer asks for alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hybrid_layer.configuration import LayerOptions, ServerOptions
from hybrid_layer.policy import Policy
from hybrid_layer.remote.delivery.context import Context, DeliveryOptions
from hybrid_layer.remote.delivery.shards import Shard, shard_for
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.remote.postgres.hosts import parse_hosts
from hybrid_layer.remote.postgres.store import PostgresStore
from hybrid_layer.remote.redis.hosts.sentinel import Sentinels
from hybrid_layer.remote.redis.options import remote_options
from hybrid_layer.remote.redis.store import RedisStore
from hybrid_layer.transport import Position, View
from tests.support.memory_store import MemoryStore

M, OTHER = "MACHINEAAA", "MACHINEBBB"
CHANNEL = f"specific.{M}-PROCESSAAA!1"
"""A channel of the machine M."""
START = Position(0, 0)


class Opened:
    """A store as one process has it."""

    def __init__(self, store: Store, shards: Sequence[Shard]) -> None:
        self.store = store
        self.shards = shards

    def home(self, name: str) -> Shard:
        """The shard of a name."""
        return self.shards[shard_for(name, len(self.shards))]

    async def __aenter__(self) -> Opened:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()
        self.store.abort()  # what it has open in the I/O thread


Open = Callable[..., Opened]
"""The type of the fixture `open_store`."""


def view(**fields: Any) -> View:
    """What a machine knows of a server that it has not met, but for `fields`."""
    return View(M, None, 0, 0, 0, 0, 0, 0, 0, 1)._replace(**fields)


def redis_store(hosts: Sequence[Any], prefix: str, mode: str = "queue", **options: Any) -> Opened:
    """A store over servers. `options` are those of a layer."""
    of_servers = {name: options.pop(name) for name in ("block_time", "timeout") if name in options}
    policy = Policy(LayerOptions(prefix=prefix, **options))
    settings = remote_options(ServerOptions(hosts=hosts, **of_servers), mode, lambda message, where: b"")
    assert not isinstance(settings.hosts, Sentinels), "which name no service"
    context = Context(policy, settings, [host.label for host in settings.hosts], None)
    return Opened(RedisStore(context, settings.hosts), context.shards)


def postgres_store(hosts: Sequence[Any], prefix: str, mode: str = "queue", **options: Any) -> Opened:
    """A store over databases. `options` are those of a layer."""
    settings = DeliveryOptions(options.pop("timeout", 5), options.pop("block_time", 2), mode)
    found = parse_hosts(ServerOptions(hosts=hosts))
    context = Context(Policy(LayerOptions(prefix=prefix, **options)), settings, [host.label for host in found], None)
    return Opened(PostgresStore(context, found), context.shards)


def memory_store(prefix: str, mode: str = "queue", **options: Any) -> Opened:
    """A store in the memory of the test."""
    settings = DeliveryOptions(options.pop("timeout", 5), options.pop("block_time", 2), mode)
    context = Context(Policy(LayerOptions(prefix=prefix, **options)), settings, ["memory"], None)
    return Opened(MemoryStore(context), context.shards)
