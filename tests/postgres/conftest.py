"""Fixtures for tests of the layer over PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_layer.remote import PostgresChannelLayer
from tests.support.postgres import PostgresServer


class Maker:
    """`make_layer(**options)`: by default on the test's own database, with its own prefix.

    At the end of a coroutine test, the layers that it made are closed.
    """

    def __init__(self, request: pytest.FixtureRequest, prefix: str) -> None:
        self._request = request
        self._prefix = prefix
        self._made: list[Any] = []

    def __call__(self, **options: Any) -> Any:
        if "hosts" not in options:
            server: PostgresServer = self._request.getfixturevalue("postgres_server")
            options["hosts"] = [server.url_of(self._request.getfixturevalue("database"))]
        self._made.append(PostgresChannelLayer(prefix=self._prefix, **options))
        return self._made[-1]

    async def __aenter__(self) -> None:
        """The layers are made as the test asks for them."""

    async def __aexit__(self, *_: object) -> None:
        for layer in self._made:
            await layer.close()


@pytest.fixture
def make_layer(request: pytest.FixtureRequest, prefix: str, needs_postgres: None) -> Maker:
    return Maker(request, prefix)
