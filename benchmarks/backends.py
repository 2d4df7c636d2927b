"""The servers of a benchmark: one for most questions, several beside one another, and a cluster.

Each is started when a question first asks for it, and ends with the benchmark.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.server import Observer
from tests.support.closing import Closing
from tests.support.clusters import Cluster, cluster_of
from tests.support.servers import Kind, Server, default_kind, start_server

_NODE_TIMEOUT_MS = 15_000
"""As clusters have it by default. Those of the tests ask each other so often that it shows in processor time."""
_IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Used:
    """The processor time of all servers at one moment."""

    when: float
    """time.monotonic()."""
    cpu: Sequence[float]
    """Seconds that each server has used."""


@dataclass(frozen=True)
class Backend:
    """What the layers of one run connect to."""

    hosts: Sequence[Any]
    """Entries of the option `hosts`."""
    observers: Sequence[Observer]
    """One for each server."""

    def empty(self) -> None:
        """Remove what other runs have left."""
        for observer in self.observers:
            observer.empty()

    @cached_property
    def idle(self) -> list[float]:
        """The share of a processor that each server uses while nobody calls it. Takes a second."""
        before = self.read()
        time.sleep(_IDLE_SECONDS)
        after = self.read()
        return [(b - a) / (after.when - before.when) for a, b in zip(before.cpu, after.cpu, strict=True)]

    def read(self) -> Used:
        """What the servers have used so far."""
        return Used(time.monotonic(), [observer.cpu() for observer in self.observers])

    def worked(self, before: Used, after: Used) -> list[float]:
        """The seconds that each server worked in between, beyond what it does by the clock."""
        duration = after.when - before.when
        return [b - a - idle * duration for a, b, idle in zip(before.cpu, after.cpu, self.idle, strict=True)]


class Backends(Closing):
    """All servers. As a context manager they end with the block."""

    def __init__(self, kind: Kind | None) -> None:
        self._kind = kind or default_kind()
        self._stack = contextlib.ExitStack()
        self._servers: list[Server] = []
        self._clusters: dict[int, Cluster] = {}
        self._backends: dict[tuple[int, ...], Backend] = {}

    def hosts(self, number: int) -> Backend:
        """So many servers that know nothing of each other."""
        while len(self._servers) < number:
            self._servers.append(self._stack.enter_context(start_server(self._kind)))
        servers = self._servers[:number]
        return self._backend([server.url for server in servers], servers)

    def cluster(self, nodes: int) -> Backend:
        """A cluster of so many primaries."""
        if nodes not in self._clusters:
            self._clusters[nodes] = cluster = self._stack.enter_context(cluster_of(self._kind, nodes))
            for node in cluster.nodes:
                node.command("CONFIG", "SET", "cluster-node-timeout", _NODE_TIMEOUT_MS)
        cluster = self._clusters[nodes]
        return self._backend([cluster.host()], cluster.nodes)

    def _backend(self, hosts: Sequence[Any], servers: Sequence[Server]) -> Backend:
        """The same object for the same servers, as it knows what they use while idle."""
        key = tuple(server.port for server in servers)
        if key not in self._backends:
            observers = [Observer(server.url) for server in servers]
            for observer in observers:
                self._stack.callback(observer.close)
            self._backends[key] = Backend(hosts, observers)
        return self._backends[key]

    def close(self) -> None:
        """End them."""
        self._stack.close()
