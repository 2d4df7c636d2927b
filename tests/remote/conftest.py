"""Fixtures for tests of the remote half on real servers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from tests.remote.tools import Make
from tests.support.servers import Server


@pytest.fixture
def server(servers: list[Server]) -> Server:
    """A server that runs for the whole session."""
    return servers[0]


class Maker:
    """`make(layer_class, **options)`: by default on `server` and with the test's own prefix.

    At the end of a coroutine test, the layers that it made are closed.
    """

    def __init__(self, prefix: str, server: Server) -> None:
        self._defaults = {"hosts": [server.url], "prefix": prefix}
        self._made: list[Any] = []

    def __call__(self, layer_class: Make, **options: Any) -> Any:
        self._made.append(layer_class(**{**self._defaults, **options}))
        return self._made[-1]

    async def __aenter__(self) -> None:
        """The layers are made as the test asks for them."""

    async def __aexit__(self, *_: object) -> None:
        for layer in self._made:
            await layer.close()


@pytest.fixture
def make(prefix: str, server: Server) -> Maker:
    return Maker(prefix, server)


@pytest.fixture
def make_layer(make: Maker) -> Make:
    """`make` of the class for queues."""
    return partial(make, RedisChannelLayer)


@pytest.fixture
def make_pubsub(make: Maker) -> Make:
    """`make` of the class for pub/sub."""
    return partial(make, RedisPubSubChannelLayer)
