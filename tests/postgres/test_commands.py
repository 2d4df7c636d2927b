"""The commands for operators look at databases, too."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import psycopg
import pytest

from hybrid_layer.commands.program import main
from hybrid_layer.remote.postgres.schema import SCHEMA
from tests.support.loops import Run
from tests.support.postgres import PostgresServer
from tests.support.servers import HOST, free_port
from tests.support.waiting import block

pytestmark = pytest.mark.usefixtures("needs_postgres")


class Commands:
    """`commands(*arguments)` runs one; its exit code and what it printed."""

    def __init__(self, prefix: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._before = ["--prefix", prefix, "--hosts", url]
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        code = main([*self._before, *arguments])
        return code, self._capsys.readouterr().out

    def servers(self, *arguments: str) -> list[dict[str, Any]]:
        _, printed = self(*arguments, "status", "--json")
        servers: list[dict[str, Any]] = json.loads(printed)["servers"]
        return servers


@pytest.fixture
def commands(
    prefix: str, postgres_server: PostgresServer, database: str, capsys: pytest.CaptureFixture[str]
) -> Commands:
    return Commands(prefix, postgres_server.url_of(database), capsys)


def test_looking_makes_nothing(commands: Commands, postgres_server: PostgresServer, database: str) -> None:
    (server,) = commands.servers()
    assert server["up"]
    assert server["keys"] == {}
    assert not postgres_server.value(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{SCHEMA}'", database=database)


def test_a_health_check_makes_the_schema(commands: Commands, postgres_server: PostgresServer, database: str) -> None:
    """As the first process of the site would; docs/operating.rst says so."""
    assert commands("healthcheck")[0] == 0
    assert postgres_server.value(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{SCHEMA}'", database=database)


def test_a_database_in_use(commands: Commands, make_layer: Any, run: Run) -> None:
    layer = make_layer()

    async def use() -> None:
        for n in range(3):
            await layer.send("jobs", {"n": n})
        await layer.group_add("group", "jobs")
        await layer.close()

    run(use())
    (server,) = commands.servers()
    assert server["version"].startswith("postgresql 1")
    assert 0 < server["round_trip"] < 5
    assert (server["keys"]["message"], server["keys"]["member"]) == (3, 1)
    code, printed = commands("healthcheck")
    assert (code, "servers" in printed) == (0, True)
    assert commands.servers()[0]["keys"]["message"] == 3, "nothing is left"


def test_a_role_without_rights_on_the_tables(
    make_layer: Any, run: Run, prefix: str, postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str],
    database: str,
) -> None:  # fmt: skip
    run(make_layer().send("jobs", {}))
    postgres_server.command("CREATE ROLE few LOGIN", database=database)
    commands = Commands(prefix, postgres_server.url_of(database, user="few"), capsys)
    (server,) = commands.servers()
    assert server["up"]
    assert server["skipped"] == ["counting"]
    postgres_server.command("DROP ROLE few", database=database)


def test_a_database_that_does_not_count_in_time(
    commands: Commands, make_layer: Any, run: Run, postgres_server: PostgresServer, database: str
) -> None:
    """It answers, and so is up, though each of the counts takes a part of the time."""
    run(make_layer().send("jobs", {}))
    url = postgres_server.url_of(database)
    with psycopg.connect(url) as one, psycopg.connect(url) as other:
        one.execute(f"LOCK TABLE {SCHEMA}.message")
        other.execute(f"LOCK TABLE {SCHEMA}.member")
        half_the_time = time.monotonic() + 1

        def finish_late() -> None:
            block(half_the_time)
            one.rollback()

        release = threading.Thread(target=finish_late)
        release.start()
        (server,) = commands.servers("--timeout", "2")
        release.join()
    assert server["up"], server["error"]
    assert not server["all_keys"]
    assert server["keys"] == {"message": 1}


def test_a_database_that_is_down(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    commands = Commands(prefix, f"postgresql://user:secret@{HOST}:{free_port()}/name", capsys)
    code, printed = commands("--timeout", "2", "status")
    assert code == 1
    assert "DOWN" in printed
    assert "secret" not in printed
