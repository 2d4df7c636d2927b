"""Fixtures for tests of the remote half on real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from tests.support.servers import Server


@pytest.fixture
def server(servers: list[Server]) -> Server:
    """A server that runs for the whole session."""
    return servers[0]


@pytest.fixture
def make_layer(prefix: str, server: Server, run: Callable[..., Any]) -> Iterator[Callable[..., RedisChannelLayer]]:
    """`make_layer(**options)`; by default on `server` and with the test's own prefix."""
    yield from _makers(RedisChannelLayer, prefix, server)


@pytest.fixture
def make_pubsub(prefix: str, server: Server, run: Callable[..., Any]) -> Iterator[Callable[..., RedisChannelLayer]]:
    """As `make_layer`, of the pub/sub class."""
    yield from _makers(RedisPubSubChannelLayer, prefix, server)


def _makers(
    layer_class: type[RedisChannelLayer], prefix: str, server: Server
) -> Iterator[Callable[..., RedisChannelLayer]]:
    layers: list[RedisChannelLayer] = []

    def make(**options: Any) -> RedisChannelLayer:
        layer = layer_class(**{"hosts": [server.url], "prefix": prefix, **options})
        layers.append(layer)
        return layer

    yield make
    layers.clear()
