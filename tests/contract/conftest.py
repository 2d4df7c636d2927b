"""Every test of this suite runs for each configuration of the layer; coroutine tests run on uvloop too.

`make_layer(**options)` builds a layer of the configuration under test. All layers of one test share one random prefix,
so that a second one meets the first; what they leave behind is flushed and closed when the test ends.

`make test` runs each test once for each path that messages take; the other configurations, which go the same ways,
are marked `thorough`, as all on uvloop is.

Marks narrow a test that does not apply everywhere, or is too heavy for everywhere:
`configurations(name, ...)` names configurations or families of them, `one_loop` leaves uvloop out, `bounded` leaves out
the process-specific channels of pub/sub, whose messages are not stored: they are never full.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.loops import LOOPS
from tests.support.marks import thorough_unless

TIME_LIMIT = 30
"""Seconds after which a coroutine test has failed; nothing here waits anywhere near that long."""


@dataclass(frozen=True)
class Configuration:
    """A class and the number of servers that it is given."""

    name: str
    backend: str
    hosts: int = 0
    remote: str = "queue"
    """How process-specific channels and groups travel over servers."""
    on_cluster: bool = False
    """Whether the one host is a Redis Cluster."""

    @property
    def specific_is_remote(self) -> bool:
        """Whether process-specific channels and groups travel over servers."""
        return self.hosts > 0

    @property
    def normal_is_remote(self) -> bool:
        """Whether normal channels do."""
        return self.backend in (QUEUE, PUBSUB)

    def is_bounded(self, kind: str) -> bool:
        """Whether channels of this kind hold as many messages as their capacity, and then are full."""
        return kind == "normal" or self.remote == "queue"

    def is_remote(self, kind: str) -> bool:
        """Whether channels of this kind, ``normal`` or ``specific``, travel over servers."""
        return self.normal_is_remote if kind == "normal" else self.specific_is_remote


IPC = "hybrid_layer.ipc.IPCChannelLayer"
HYBRID = "hybrid_layer.HybridChannelLayer"
QUEUE = "hybrid_layer.remote.RedisChannelLayer"
PUBSUB = "hybrid_layer.remote.RedisPubSubChannelLayer"
MEMORY = "tests.support.memory_store.MemoryChannelLayer"
MEMORY_PUBSUB = "tests.support.memory_store.MemoryPubSubChannelLayer"

CONFIGURATIONS = {
    configuration.name: configuration
    for configuration in (
        Configuration("ipc", IPC),
        Configuration("hybrid-local", HYBRID),
        Configuration("hybrid-1", HYBRID, 1),
        Configuration("hybrid-3", HYBRID, 3),
        Configuration("queue-1", QUEUE, 1),
        Configuration("queue-3", QUEUE, 3),
        Configuration("pubsub-1", PUBSUB, 1, "pubsub"),
        Configuration("hybrid-pubsub-3", HYBRID, 3, "pubsub"),
        Configuration("queue-cluster", QUEUE, 1, on_cluster=True),
        Configuration("pubsub-cluster", PUBSUB, 1, "pubsub", on_cluster=True),
        Configuration("memory", MEMORY),
        Configuration("memory-pubsub", MEMORY_PUBSUB, remote="pubsub"),
    )
}
PATHS = ["ipc", "hybrid-3", "queue-1", "pubsub-1"]
"""Each piece of code that stores, waits or wakes is in one of these."""
IN_MEMORY = ["memory", "memory-pubsub"]
"""The remote half over a store in the memory of one process: what needs another process is marked `processes`."""
FAMILIES = {
    "stored": [name for name, configuration in CONFIGURATIONS.items() if configuration.is_bounded("specific")],
    "local": ["ipc", "hybrid-local"],
    "hybrid": ["hybrid-1", "hybrid-3"],
    "queue": ["queue-1", "queue-3"],
    "pubsub": ["pubsub-1", "hybrid-pubsub-3"],
    "each-path": PATHS,
}
ON_CLUSTERS = ("test_groups", "test_flush_close")
"""The files that run on clusters too: what is different there is which keys and channels lie together."""


@dataclass
class LayerMaker:
    """Builds layers of one configuration, and knows how another process would build the same."""

    configuration: Configuration
    hosts: list[Any]
    prefix: str = field(default_factory=lambda: "test-" + secrets.token_hex(6))
    layers: list[Any] = field(default_factory=list)

    def __call__(self, **options: Any) -> Any:
        spec = self.spec(**options)
        module, _, name = spec["backend"].rpartition(".")
        layer = getattr(importlib.import_module(module), name)(**spec["options"])
        self.layers.append(layer)
        return layer

    def spec(self, **options: Any) -> dict[str, Any]:
        """Class and options in a form that goes to another process as JSON."""
        complete: dict[str, Any] = {"prefix": self.prefix, **options}
        if self.configuration.hosts:
            complete.setdefault("hosts", self.hosts)
        if self.configuration.backend == HYBRID and self.configuration.remote != "queue":
            complete.setdefault("remote", self.configuration.remote)
        return {"backend": self.configuration.backend, "options": complete}

    async def clean_up(self) -> None:
        """Empty every prefix that was used and give back what belongs to the running loop."""
        layers, self.layers = self.layers, []
        for layer in {layer.prefix: layer for layer in layers}.values():
            await layer.flush()
        for layer in layers:
            await layer.close()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "configurations(*names): run for these configurations or families only")
    config.addinivalue_line("markers", "processes: another process takes part, so not for a store in memory")
    config.addinivalue_line("markers", "one_loop: run on asyncio only")
    config.addinivalue_line("markers", "bounded: run for channels that can be full only; needs the parameter `kind`")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("configurations")
    wanted = mark.args if mark else list(CONFIGURATIONS)
    names = [name for entry in wanted for name in FAMILIES.get(entry, [entry])]
    if not metafunc.module.__name__.endswith(ON_CLUSTERS):
        names = [name for name in names if not CONFIGURATIONS[name].on_cluster]
    if metafunc.definition.get_closest_marker("processes"):
        names = [name for name in names if name not in IN_MEMORY]
    # A test of other configurations alone takes the first.
    paths = [name for name in names if name in (*PATHS, *IN_MEMORY)] or names[:1]
    if not inspect.iscoroutinefunction(metafunc.function):
        if "configuration" in metafunc.fixturenames:
            cases = [pytest.param(name, marks=thorough_unless(name in paths)) for name in names]
            metafunc.parametrize("configuration", cases, indirect=True, scope="session")
        return
    one_loop = metafunc.definition.get_closest_marker("one_loop") is not None
    cases = [
        pytest.param(loop, name, marks=thorough_unless(name in paths))
        for name in names
        for loop in LOOPS
        if loop == "asyncio" or (name in PATHS and not one_loop)
    ]
    metafunc.fixturenames.append("loop_kind")
    metafunc.parametrize(("loop_kind", "configuration"), cases, indirect=["configuration"], scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unbounded = [
        item
        for item in items
        if isinstance(item, pytest.Function)
        and item.get_closest_marker("bounded")
        and not CONFIGURATIONS[item.callspec.params["configuration"]].is_bounded(item.callspec.params["kind"])
    ]
    items[:] = [item for item in items if item not in unbounded]
    config.hook.pytest_deselected(items=unbounded)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    maker = pyfuncitem.funcargs.get("make_layer")

    async def run() -> None:
        try:
            async with asyncio.timeout(TIME_LIMIT):
                await pyfuncitem.obj(**arguments)
        except BaseException:
            if maker is not None:
                with contextlib.suppress(Exception):  # the test's own failure is the one to show
                    await maker.clean_up()
            raise
        if maker is not None:
            await maker.clean_up()

    with asyncio.Runner(loop_factory=LOOPS[pyfuncitem.callspec.params["loop_kind"]]) as runner:
        runner.run(run())
    return True


@pytest.fixture(scope="session")
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return CONFIGURATIONS[request.param]


@pytest.fixture
def make_layer(configuration: Configuration, request: pytest.FixtureRequest) -> Iterator[LayerMaker]:
    hosts = request.getfixturevalue("hosts")[: configuration.hosts] if configuration.hosts else []
    if configuration.on_cluster:
        hosts = [request.getfixturevalue("pubsub_cluster" if configuration.remote == "pubsub" else "cluster").host()]
    maker = LayerMaker(configuration, hosts)
    yield maker
    if maker.layers:
        asyncio.run(maker.clean_up())
