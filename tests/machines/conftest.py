"""Fixtures for tests with three machines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machines.peers import Site
from tests.support.machines import Network


@pytest.fixture
def site(request: pytest.FixtureRequest, network: Network, prefix: str) -> Iterator[Site]:
    """Three machines and, by the test's parameter, the number of servers and the layer's `remote` and `locality`."""
    number, remote, locality = request.param
    only = request.config.getoption("--server")
    kinds = [only] * 3 if only else [None, "valkey", "redis-6.2"]
    servers = [network.server(kind) for kind in kinds[:number]]
    with Site(
        [network.machine() for _ in range(3)], servers, {"prefix": prefix, "remote": remote, "locality": locality}
    ) as site:
        yield site
