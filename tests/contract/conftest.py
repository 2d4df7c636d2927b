"""Every test of this suite runs for each configuration of the layer; coroutine tests run on uvloop too.

`make_layer(**options)` builds a layer of the configuration under test. All layers of one test share one random prefix,
so that a second one meets the first; what they leave behind is flushed and closed when the test ends.

`make test` runs each test once for each path that messages take; the other configurations, which go the same ways,
are marked `thorough`, as all on uvloop is.

What narrows a test that does not apply everywhere, or is too heavy for everywhere: the mark `configurations(name, ...)`
names configurations or families of them, `processes` leaves out those of one process, and `one_loop` uvloop. The
parameter `bounded_kind` is "normal" or "specific", of which only those kinds are run that can be full.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from tests.contract.configurations import (
    CONFIGURATIONS,
    FAMILIES,
    IN_MEMORY,
    ON_LOOPS,
    PATHS,
    VARIANTS,
    Configuration,
    LayerMaker,
)
from tests.support.loops import LOOPS
from tests.support.marks import thorough_unless

ON_CLUSTERS = ("test_groups", "test_group_channels", "test_flush_close")
"""The files that run on clusters too: what is different there is which keys and channels lie together."""
BEFORE_ANY_STORE = ("test_contexts", "test_frozen_time", "test_messages", "test_names", "test_options")
"""The files about what is decided before a store is asked. They run on Redis, not on PostgreSQL."""
BY_A_STORE = (
    *("test_cancellation", "test_capacity_expiry", "test_channels", "test_flush_close", "test_groups"),
    "test_process_specific",
)
"""The files about what a store does itself. The others run on PostgreSQL with `make test-all`."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "configurations(*names): run for these configurations or families only")
    config.addinivalue_line("markers", "processes: another process takes part, so not for a store in memory")
    config.addinivalue_line("markers", "one_loop: run on asyncio only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("configurations")
    names = [name for each in (mark.args if mark else CONFIGURATIONS) for name in FAMILIES.get(each, [each])]
    if not metafunc.module.__name__.endswith(ON_CLUSTERS):
        left_out = () if mark else VARIANTS
        names = [name for name in names if not CONFIGURATIONS[name].on_cluster and name not in left_out]
    if metafunc.module.__name__.endswith(BEFORE_ANY_STORE):
        names = [name for name in names if not CONFIGURATIONS[name].on_postgres]
    if metafunc.definition.get_closest_marker("processes"):
        names = [name for name in names if name not in IN_MEMORY]
    # A test of other configurations alone takes the first.
    usual = [name for name in names if name in (*PATHS, *IN_MEMORY)] or names[:1]
    if not metafunc.module.__name__.endswith(BY_A_STORE):
        usual = [name for name in usual if not CONFIGURATIONS[name].on_postgres]
    loops = ["asyncio"]
    if inspect.iscoroutinefunction(metafunc.function) and not metafunc.definition.get_closest_marker("one_loop"):
        loops = list(LOOPS)
    parameters = [each for each in ("loop_kind", "configuration", "bounded_kind") if each in metafunc.fixturenames]
    cases = {
        tuple({"loop_kind": loop, "configuration": name, "bounded_kind": kind}[each] for each in parameters): name
        for name in names
        for loop in (loops if name in ON_LOOPS else loops[:1])
        for kind in ("normal", "specific")
        if CONFIGURATIONS[name].is_bounded(kind)
    }
    if "configuration" in parameters:
        marked = [pytest.param(*case, marks=thorough_unless(name in usual)) for case, name in cases.items()]
        metafunc.parametrize(parameters, marked, indirect=["configuration"], scope="session")


@pytest.fixture(scope="session")
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return CONFIGURATIONS[request.param]


@pytest.fixture
def make_layer(configuration: Configuration, request: pytest.FixtureRequest) -> Iterator[LayerMaker]:
    fixture = "postgres_hosts" if configuration.on_postgres else "hosts"
    hosts = request.getfixturevalue(fixture)[: configuration.hosts] if configuration.hosts else []
    if configuration.on_cluster:
        hosts = [request.getfixturevalue("pubsub_cluster" if configuration.remote == "pubsub" else "cluster").host()]
    maker = LayerMaker(configuration, hosts)
    yield maker
    if maker.layers:
        asyncio.run(maker.clean_up())
