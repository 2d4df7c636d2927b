"""The configurations of the layer that the suite runs for, and what builds layers of one."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from django.utils.module_loading import import_string

IPC = "hybrid_layer.ipc.IPCChannelLayer"
HYBRID = "hybrid_layer.HybridChannelLayer"
QUEUE = "hybrid_layer.remote.RedisChannelLayer"
PUBSUB = "hybrid_layer.remote.RedisPubSubChannelLayer"
POSTGRES = "hybrid_layer.remote.PostgresChannelLayer"
MEMORY = "tests.support.memory_store.MemoryChannelLayer"
MEMORY_PUBSUB = "tests.support.memory_store.MemoryPubSubChannelLayer"


@dataclass(frozen=True)
class Configuration:
    """A class and its number of servers."""

    name: str
    backend: str
    hosts: int = 0
    remote: str = "queue"
    """How process-specific channels and groups travel over servers."""
    on_postgres: bool = False
    """Whether the hosts are PostgreSQL databases."""
    on_cluster: bool = False
    """Whether the one host is a Redis Cluster."""
    locality: str = "name"
    """What new channels of the hybrid are named after: the process alone, or the machine, too."""

    @property
    def is_one_queue(self) -> bool:
        """Whether all messages for one process are in one order: several servers have an inbox for it each."""
        return self.locality == "machine" or (self.hosts <= 1 and not self.on_cluster)

    def is_bounded(self, kind: str) -> bool:
        """Whether channels of a kind, ``normal`` or ``specific``, can be full. Published messages are not stored."""
        return kind == "normal" or self.remote == "queue"

    def is_remote(self, kind: str) -> bool:
        """Whether channels of a kind travel over servers."""
        return self.backend in (QUEUE, PUBSUB, POSTGRES) or (
            kind == "specific" and self.hosts > 0 and self.locality == "name"
        )


_ALL = [
    Configuration("ipc", IPC),
    Configuration("hybrid-local", HYBRID),
    Configuration("hybrid-1", HYBRID, 1),
    Configuration("hybrid-3", HYBRID, 3),
    Configuration("machine-local", HYBRID, locality="machine"),
    Configuration("machine-1", HYBRID, 1, locality="machine"),
    Configuration("machine-3", HYBRID, 3, locality="machine"),
    Configuration("machine-cluster", HYBRID, 1, on_cluster=True, locality="machine"),
    Configuration("queue-1", QUEUE, 1),
    Configuration("queue-3", QUEUE, 3),
    Configuration("pubsub-1", PUBSUB, 1, "pubsub"),
    Configuration("hybrid-pubsub-3", HYBRID, 3, "pubsub"),
    Configuration("queue-cluster", QUEUE, 1, on_cluster=True),
    Configuration("pubsub-cluster", PUBSUB, 1, "pubsub", on_cluster=True),
    Configuration("postgres-1", POSTGRES, 1, on_postgres=True),
    Configuration("postgres-3", POSTGRES, 3, on_postgres=True),
    Configuration("postgres-pubsub-1", POSTGRES, 1, "pubsub", on_postgres=True),
    Configuration("postgres-hybrid-3", HYBRID, 3, on_postgres=True),
    Configuration("postgres-machine-1", HYBRID, 1, on_postgres=True, locality="machine"),
    Configuration("memory", MEMORY),
    Configuration("memory-pubsub", MEMORY_PUBSUB, remote="pubsub"),
]
CONFIGURATIONS = {configuration.name: configuration for configuration in _ALL}
PATHS = ["ipc", "hybrid-3", "machine-3", "queue-1", "pubsub-1", "postgres-1"]
"""Each piece of code that stores, waits or wakes is in one of these."""
ON_LOOPS = [path for path in PATHS if path not in ("machine-3", "postgres-1")]
"""Those that run on each kind of event loop. By machine, an application's loop meets what it does in "ipc"; a session
with PostgreSQL needs no more of it than `add_reader`, as "ipc" does."""
VARIANTS = ["machine-local", "machine-1", "postgres-3", "postgres-hybrid-3", "postgres-machine-1"]
"""Those that go the ways of others: they take part in what concerns names and groups, and where they are named."""
IN_MEMORY = ["memory", "memory-pubsub"]
"""The remote half over a store in the memory of one process: what needs another process is marked `processes`."""
FAMILIES = {
    "stored": [configuration.name for configuration in _ALL if configuration.is_bounded("specific")],
    "local": ["ipc", "hybrid-local", "machine-local"],
    "hybrid": ["hybrid-1", "hybrid-3"],
    "machine": ["machine-1", "machine-3"],
    "queue": ["queue-1", "queue-3"],
    "each-path": PATHS,
}


def build(spec: dict[str, Any]) -> Any:
    """The layer that `LayerMaker.spec` describes."""
    return import_string(spec["backend"])(**spec["options"])


@dataclass
class LayerMaker:
    """Builds layers of one configuration, and knows how another process would build the same.

    As a context manager, it cleans up what the loop has used.
    """

    configuration: Configuration
    hosts: list[Any]
    prefix: str = field(default_factory=lambda: "test-" + secrets.token_hex(6))
    layers: list[Any] = field(default_factory=list)

    def __call__(self, **options: Any) -> Any:
        layer = build(self.spec(**options))
        self.layers.append(layer)
        return layer

    def spec(self, **options: Any) -> dict[str, Any]:
        """Class and options in a form that can be passed to another process as JSON."""
        complete: dict[str, Any] = {"prefix": self.prefix, **options}
        if self.configuration.hosts:
            complete.setdefault("hosts", self.hosts)
        if self.configuration.backend in (HYBRID, POSTGRES) and self.configuration.remote != "queue":
            complete.setdefault("remote", self.configuration.remote)
        if self.configuration.locality != "name":
            complete.setdefault("locality", self.configuration.locality)
        return {"backend": self.configuration.backend, "options": complete}

    async def clean_up(self) -> None:
        """Empty every prefix that was used and give back what belongs to the running loop."""
        layers, self.layers = self.layers, []
        for layer in {layer.prefix: layer for layer in layers}.values():
            await layer.flush()
        for layer in layers:
            await layer.close()

    async def __aenter__(self) -> LayerMaker:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with contextlib.suppress(*[] if error is None else [Exception]):  # show the test's own failure instead
            await self.clean_up()
