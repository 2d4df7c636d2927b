"""Fixtures for tests of the remote half on real servers."""

from __future__ import annotations

from functools import partial

import pytest

from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from tests.remote.stores import Open, memory_store, postgres_store, redis_store
from tests.remote.tools import Make
from tests.support.clusters import Cluster
from tests.support.maker import Maker
from tests.support.servers import Server


@pytest.fixture
def server(servers: list[Server]) -> Server:
    """A server that runs for the whole session."""
    return servers[0]


@pytest.fixture
def make(prefix: str, server: Server) -> Maker:
    return Maker(hosts=lambda: [server.url], prefix=lambda: prefix)


@pytest.fixture
def make_layer(make: Maker) -> Make:
    """`make` of the class for queues."""
    return partial(make, RedisChannelLayer)


@pytest.fixture
def make_pubsub(make: Maker) -> Make:
    """`make` of the class for pub/sub."""
    return partial(make, RedisPubSubChannelLayer)


@pytest.fixture(params=["server", "cluster", "postgres", "memory"])
def open_store(request: pytest.FixtureRequest, prefix: str) -> Open:
    """`open_store(**options)`: a store as one more process has it."""
    if request.param == "memory":
        return lambda **options: memory_store(prefix, **options)
    if request.param == "postgres":
        host = request.getfixturevalue("postgres_hosts")[0]
        return lambda **options: postgres_store([host], prefix, **options)
    if request.param == "cluster":
        cluster: Cluster = request.getfixturevalue("pubsub_cluster")
        return lambda **options: redis_store([cluster.host(virtual_shards=4)], prefix, **options)
    server: Server = request.getfixturevalue("server")
    return lambda **options: redis_store([server.url], prefix, **options)
