"""Fixtures for tests of the layer over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hybrid_layer.remote import PostgresChannelLayer
from tests.support.maker import Maker


@pytest.fixture
def make(request: pytest.FixtureRequest, prefix: str, needs_postgres: None) -> Maker:
    """By default on the test's own database, which is not made for tests that name their hosts."""

    def hosts() -> list[str]:
        return [request.getfixturevalue("postgres_server").url_of(request.getfixturevalue("database"))]

    return Maker(hosts=hosts, prefix=lambda: prefix)


@pytest.fixture
def make_layer(make: Maker) -> Callable[..., Any]:
    return partial(make, PostgresChannelLayer)
