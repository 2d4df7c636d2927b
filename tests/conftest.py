"""What every test may use: servers, second processes, a prefix of its own, event loops.

No test is left out silently: the end of the run names what this machine lacks. In CI (CI=true) it is an error, as
is any test that skips itself.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

import hybrid_layer
from tests.support import django_settings, loops, processes
from tests.support.clusters import Cluster, cluster_of
from tests.support.guardian import guardian
from tests.support.machines import Network, why_not
from tests.support.pgbouncer import find_pgbouncer
from tests.support.postgres import PostgresServer, find_programs, start_postgres
from tests.support.probe import forget_warnings
from tests.support.servers import KINDS, Kind, Server, default_kind, find_program, start_server

IN_CI = os.environ.get("CI") == "true"
LEFT_OUT = "there is no redis-server on this machine: others stood in for it, and its own tests were skipped"
NO_PGBOUNCER = "there is no pgbouncer on this machine: its tests were skipped"
NO_POSTGRES = "there is no PostgreSQL server on this machine (Debian's package postgresql): its tests were skipped"

PACKAGE = Path(hybrid_layer.__file__).parent
HAS_PASSED = pytest.StashKey[bool]()

django_settings.configure()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=KINDS, help="run on servers of this kind alone, not on one of each")


def pytest_configure(config: pytest.Config) -> None:
    for sources in (PACKAGE / "_inbox", PACKAGE / "ipc/_core"):
        built = sources.with_name(f"{sources.name}.abi3.so")
        newest = max(source.stat().st_mtime for source in sources.rglob("*.[ch]"))
        if not built.exists() or built.stat().st_mtime < newest:
            raise pytest.UsageError(f"{sources} has changed since it was compiled: make build")
    for kind in ("valkey", "redis-6.2"):
        if find_program(kind) is None:
            raise pytest.UsageError(f"there is no {kind} server: make build")
    if find_program("redis") is None and (IN_CI or config.getoption("--server") == "redis"):
        raise pytest.UsageError("there is no redis-server on this machine, and nothing is left out")
    for lacking in filter(None, _no_postgres()):
        if IN_CI:
            raise pytest.UsageError(f"{lacking}, and in CI nothing may be")


def pytest_report_header(config: pytest.Config) -> str:
    return f"servers: {', '.join(_kinds(config))}; redis-py {redis.__version__}"


def _kinds(config: pytest.Config) -> list[Kind]:
    """The kinds of the three servers that run all the time; tests that start their own use the first."""
    only = config.getoption("--server")
    return [only] * 3 if only else [default_kind(), "valkey", "redis-6.2"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Of a test that runs on asyncio and on uvloop, the second run is marked `thorough`."""
    if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "uvloop" in item.callspec.params.values():
        item.add_marker(pytest.mark.thorough)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A coroutine test runs as `run` would run it. What fixtures gave it as async context managers ends in its loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def test() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for given in pyfuncitem.funcargs.values():
                if isinstance(given, contextlib.AbstractAsyncContextManager):
                    await stack.enter_async_context(given)
            await pyfuncitem.obj(**arguments)

    loops.run(test(), loop=pyfuncitem.funcargs["loop_kind"])
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[HAS_PASSED] = report.passed
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and _skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lacking = [
        find_program("redis") is None and LEFT_OUT,
        *_no_postgres(),
        _no_machines(),
    ]
    for left_out in filter(None, lacking):
        terminalreporter.section("left out")
        terminalreporter.line(left_out, yellow=True)
    if IN_CI and _skipped(config):
        terminalreporter.section("failed")
        terminalreporter.line(f"{_skipped(config)} skipped, and in CI nothing may be: they are named above", red=True)


def _no_postgres() -> list[str | None]:
    return [
        NO_POSTGRES if find_programs("postgresql") is None else None,
        NO_PGBOUNCER if find_pgbouncer() is None else None,
    ]


def _no_machines() -> str | None:
    lacking = why_not()
    return lacking and f"no machines can be made here, so tests with several of them were skipped: {lacking}"


def _skipped(config: pytest.Config) -> int:
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ()))


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_run() -> Iterator[None]:
    yield
    guardian.close()


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[list[Server]]:
    """Three servers that run for the whole session: redis if there is one (else valkey), valkey, redis-6.2.

    Tests tell themselves apart by their prefix. A test that hurts a server starts its own with `new_server`.
    """
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(start_server(kind)) for kind in _kinds(pytestconfig)]


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Three primaries that run for the whole session. A test that moves slots starts its own."""
    with cluster_of(_kinds(pytestconfig)[0]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pubsub_cluster(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The same for pub/sub, or another one if those servers lack pub/sub in clusters."""
    if _kinds(pytestconfig)[0] != "redis-6.2":
        yield request.getfixturevalue("cluster")
        return
    with cluster_of("valkey") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def hosts(servers: list[Server]) -> list[str]:
    """The addresses of `servers`; a test of one host takes the first."""
    return [server.url for server in servers]


@pytest.fixture
def new_server(pytestconfig: pytest.Config) -> Iterator[Callable[..., Server]]:
    """`new_server(kind, **config)` starts a server for this test alone, to pause, kill and restart."""
    with contextlib.ExitStack() as stack:
        yield lambda kind=None, **config: stack.enter_context(start_server(kind or _kinds(pytestconfig)[0], **config))


@pytest.fixture(scope="session")
def needs_postgres() -> None:
    """For tests that need a PostgreSQL server."""
    if find_programs("postgresql") is None:
        pytest.skip(NO_POSTGRES)


@pytest.fixture
def needs_pgbouncer(needs_postgres: None) -> None:
    """For tests that need PgBouncer."""
    if find_pgbouncer() is None:
        pytest.skip(NO_PGBOUNCER)


@pytest.fixture(scope="session")
def postgres_server(needs_postgres: None) -> Iterator[PostgresServer]:
    """A PostgreSQL server that runs for the whole session. Tests tell themselves apart by prefix or `database`."""
    with start_postgres(max_connections=200) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_hosts(postgres_server: PostgresServer) -> list[str]:
    """The addresses of three databases of `postgres_server`; a test of one host takes the first."""
    return [postgres_server.url_of(postgres_server.new_database()) for _ in range(3)]


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database of `postgres_server`, for this test alone."""
    name = postgres_server.new_database()
    yield name
    postgres_server.command(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def new_postgres_server(needs_postgres: None) -> Iterator[Callable[..., PostgresServer]]:
    """`new_postgres_server(kind, **config)` starts a server for this test alone, to pause, kill and restart."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **config: stack.enter_context(start_postgres(*args, **config))


@pytest.fixture
def needs_machines() -> None:
    """For tests that make machines, which this one may not allow."""
    if (left_out := _no_machines()) is not None:
        pytest.skip(left_out)


@pytest.fixture
def network(needs_machines: None) -> Iterator[Network]:
    """Connects machines and servers of this test alone: `tests/support/machines.py`."""
    with Network() as network:
        yield network


@pytest.fixture
def needs_redis() -> None:
    """For tests that need the system's redis-server, not the Redis and the Valkey of the packages."""
    if find_program("redis") is None:
        pytest.skip(LEFT_OUT)


@pytest.fixture
def spawn(request: pytest.FixtureRequest) -> Iterator[Callable[..., processes.Process]]:
    """`tests.support.processes.spawn`. A process left running is killed, and fails a test that had passed."""
    spawned: list[processes.Process] = []

    def spawn(*args: Any, **kwargs: Any) -> processes.Process:
        spawned.append(processes.spawn(*args, **kwargs))
        return spawned[-1]

    yield spawn
    lived = [process for process in spawned if process.close()]
    if request.node.stash.get(HAS_PASSED, False):
        processes.refuse_left_running(lived)


@pytest.fixture(autouse=True)
def _calm_warnings_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets the warnings of earlier tests, which would suppress those of this one for a minute."""
    forget_warnings(monkeypatch)


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture(autouse=True)
def loop_kind() -> loops.LoopKind:
    """Which event loop a coroutine test and `run` use; to be parametrized with "asyncio" and "uvloop"."""
    return "asyncio"


@pytest.fixture
def run(loop_kind: loops.LoopKind) -> Callable[..., Any]:
    """`run(coroutine)` runs it to the end on a new event loop; `tests.support.loops.run` says more."""
    return partial(loops.run, loop=loop_kind)
