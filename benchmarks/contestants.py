"""Who is compared: channel layers, and the bare limits that no layer on the same means can beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.module_loading import import_string

CAPACITY = 20_000
"""Messages that a channel may hold, for every layer: senders should meet the layer's speed, not its limit."""


@dataclass(frozen=True)
class Place:
    """What one run may use: names of its own, so that no two runs meet."""

    hosts: Sequence[Any]
    """The servers', as redis://..., or a cluster as our layers take it."""
    prefix: str
    directory: str
    """Empty, for FIFOs."""
    capacity: int
    """Of every layer's channels."""

    @property
    def url(self) -> str:
        """The only server's."""
        [url] = self.hosts
        return str(url)


@dataclass(frozen=True)
class Contestant:
    """One layer in one configuration. Built in the process that uses it."""

    name: str
    backend: str
    """Dotted path of the class, as in CHANNEL_LAYERS."""
    config: Callable[[Place], dict[str, Any]]
    remote: bool = False
    """Does it talk to the server?"""
    clusters: bool = False
    """Can it talk to a cluster?"""
    one_process: bool = False
    """Can it not leave its process? Then all roles of a run are tasks of one event loop."""
    valkey: bool = False
    """Does it need Valkey? Its scripts do not run on Redis."""
    twin: bool = False
    """Does it do what another one does, but for the way to it? It takes part where that way may be felt."""
    bare: bool = False
    """No layer, but what a layer would stand on: sends and receives, no more."""

    def is_here(self, server: str) -> bool:
        """Is the package installed, and does it work with such a server?"""
        if self.valkey and not server.startswith("valkey"):
            return False
        try:
            import_string(self.backend)
        except ImportError:
            return False
        return True


@dataclass(frozen=True)
class Recipe:
    """A contestant for one run, in a form that another process can be given."""

    backend: str
    config: dict[str, Any]

    def build(self) -> Any:
        return import_string(self.backend)(**self.config)


def _ours(place: Place) -> dict[str, Any]:
    return {"prefix": place.prefix, "capacity": place.capacity}


def _ours_with_hosts(place: Place) -> dict[str, Any]:
    return {"hosts": list(place.hosts), **_ours(place)}


def _channels_redis(place: Place) -> dict[str, Any]:
    # channels_redis 4.3 leaves the socket timeout to redis-py, whose version 8 made it 5 s: as long as the blocking pop
    # of an idle receive(), which then dies of a TimeoutError. Without a timeout it does what was meant.
    hosts = [{"address": url, "socket_timeout": None} for url in place.hosts]
    return {"hosts": hosts, "prefix": place.prefix, "capacity": place.capacity}


def _channels_valkey(place: Place) -> dict[str, Any]:
    hosts = [{"address": url.replace("redis://", "valkey://")} for url in place.hosts]
    return {"hosts": hosts, "prefix": place.prefix, "capacity": place.capacity}


CONTESTANTS = (
    Contestant("bare pipe", "benchmarks.bare.Pipes", lambda place: {"directory": place.directory}, bare=True),
    Contestant("IPC", "hybrid_layer.ipc.IPCChannelLayer", _ours),
    Contestant("hybrid, no hosts", "hybrid_layer.HybridChannelLayer", _ours, twin=True),
    Contestant("hybrid, hosts", "hybrid_layer.HybridChannelLayer", _ours_with_hosts, remote=True, clusters=True),
    Contestant(
        "hybrid, by machine",
        "hybrid_layer.HybridChannelLayer",
        lambda place: {"locality": "machine", **_ours_with_hosts(place)},
        remote=True,
        clusters=True,
    ),
    Contestant(
        "bare EVALSHA/BLPOP",
        "benchmarks.bare.RedisLists",
        lambda place: {"url": place.url, "prefix": place.prefix},
        remote=True,
        bare=True,
    ),
    Contestant("queued", "hybrid_layer.remote.RedisChannelLayer", _ours_with_hosts, remote=True, clusters=True),
    Contestant(
        "published", "hybrid_layer.remote.RedisPubSubChannelLayer", _ours_with_hosts, remote=True, clusters=True
    ),
    Contestant("channels_redis core", "channels_redis.core.RedisChannelLayer", _channels_redis, remote=True),
    Contestant("channels_redis pubsub", "channels_redis.pubsub.RedisPubSubChannelLayer", _channels_redis, remote=True),
    *(
        Contestant(
            f"channels_valkey {module}", f"channels_valkey.{module}.{name}", _channels_valkey, remote=True, valkey=True
        )
        for module, name in (("core", "ValkeyChannelLayer"), ("pubsub", "ValkeyPubSubChannelLayer"))
    ),
    Contestant(
        "InMemory",
        "channels.layers.InMemoryChannelLayer",
        lambda place: {"capacity": place.capacity},
        one_process=True,
    ),
    Contestant("empty timer", "benchmarks.bare.Timer", lambda place: {}, one_process=True, bare=True),
    Contestant("empty coroutine", "benchmarks.bare.Nothing", lambda place: {}, one_process=True, bare=True),
)
BY_NAME = {contestant.name: contestant for contestant in CONTESTANTS}

# Who takes part in what.
LAYERS = tuple(each.name for each in CONTESTANTS if not each.bare and not each.twin)
ALL_LAYERS = tuple(each.name for each in CONTESTANTS if not each.bare)
SHARED_LAYERS = tuple(each.name for each in CONTESTANTS if not each.bare and not each.twin and not each.one_process)
REMOTE_LAYERS = tuple(each.name for each in CONTESTANTS if each.remote and not each.bare)
REMOTE = tuple(each.name for each in CONTESTANTS if each.remote)
CARRIERS = tuple(each.name for each in CONTESTANTS if not (each.twin or (each.bare and each.one_process)))
"""All that bring messages to somebody."""
