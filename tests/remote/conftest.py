"""Fixtures for tests of the remote half on real servers."""

from __future__ import annotations

from functools import partial

import pytest

from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from tests.remote.tools import Make
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
