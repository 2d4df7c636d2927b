# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures for tests on a real server whose clock they set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clocks import Clocks
from tests.support.servers import Server, start_server


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocks]:
    with Clocks(tmp_path_factory.mktemp("clocks")) as clocks:
        yield clocks


@pytest.fixture(scope="module")
def server(clocks: Clocks, pytestconfig: pytest.Config) -> Iterator[Server]:
    """A server whose clock the tests set."""
    with start_server(pytestconfig.getoption("--server"), environment=clocks.environment) as server:
        yield server
