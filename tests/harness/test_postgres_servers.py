"""The PostgreSQL servers that the other tests rely on: they start, fail, recover and end as asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.support.marks import but_thorough
from tests.support.postgres import POSTGRES_KINDS, NewPostgresServer, PostgresKind, PostgresServer, find_programs
from tests.support.servers import ServerError
from tests.support.waiting import block_until

TABLES = "CREATE TABLE kept AS SELECT 1; CREATE UNLOGGED TABLE unlogged AS SELECT 1"
FOUND = "SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM unlogged)"


def test_databases_are_told_apart(postgres_server: PostgresServer, postgres_hosts: list[str]) -> None:
    found = []
    for host in postgres_hosts:
        with psycopg.connect(host) as connection:
            found.append(connection.execute("SELECT current_database(), inet_server_port()").fetchone())
    assert len(set(found)) == 3
    assert {port for _, port in found} == {postgres_server.port}
    assert psutil.Process(postgres_server.pid).uids().real != 0


def test_a_database_for_one_test(postgres_server: PostgresServer, database: str) -> None:
    postgres_server.command("CREATE TABLE here ()", database=database)
    with pytest.raises(psycopg.errors.UndefinedTable):
        postgres_server.command("TABLE here")


@pytest.mark.parametrize("kind", but_thorough(POSTGRES_KINDS, "postgresql-18"))
def test_what_a_stop_a_crash_and_a_kill_keep(new_postgres_server: NewPostgresServer, kind: PostgresKind) -> None:
    if find_programs(kind) is None:
        pytest.skip(f"there is no {kind}")
    server = new_postgres_server(kind, work_mem="1234kB")
    assert server.value("SHOW work_mem") == "1234kB"
    if kind != "postgresql":
        assert server.value("SHOW server_version").split(".")[0] == kind.removeprefix("postgresql-")
    for statement in TABLES.split(";"):
        server.command(statement)
    port, pid = server.port, server.pid
    server.restart()
    assert (server.port, server.pid != pid) == (port, True)
    assert server.command(FOUND) == [(1, 1)]
    server.crash()
    with pytest.raises(psycopg.OperationalError):
        server.command("SELECT 1")
    server.restart()
    assert server.command(FOUND) == [(1, 0)]
    server.kill()
    server.restart()
    assert server.command(FOUND) == [(1, 0)]


@pytest.mark.thorough
def test_a_killed_session_takes_the_others_along(new_postgres_server: NewPostgresServer) -> None:
    server = new_postgres_server()
    with psycopg.connect(server.url, autocommit=True) as one, psycopg.connect(server.url) as other:
        server.kill_backend(one.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")
    assert server.value("SELECT 1") == 1


@pytest.mark.thorough
def test_a_standby_is_promoted(new_postgres_server: NewPostgresServer) -> None:
    primary = new_postgres_server()
    with primary.start_standby() as standby:
        primary.command("CREATE TABLE kept AS SELECT 1")
        block_until(lambda: standby.value("SELECT to_regclass('kept')"), "it has the table")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            standby.command("DROP TABLE kept")
        primary.kill()
        standby.promote()
        standby.command("DROP TABLE kept")


def test_a_paused_server_is_silent_and_can_be_closed(new_postgres_server: NewPostgresServer) -> None:
    server = new_postgres_server()
    with psycopg.connect(server.url, autocommit=True) as connection:
        server.pause()
        children = psutil.Process(server.pid).children()
        assert {child.status() for child in children} == {psutil.STATUS_STOPPED}
        server.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        server.pause()
        server.close()
    assert not server.running
    assert not server.directory.exists()
    assert not any(child.is_running() for child in children)


@pytest.mark.thorough
def test_access_by_password_alone(new_postgres_server: NewPostgresServer) -> None:
    server = new_postgres_server(access=["host all all 127.0.0.1/32 scram-sha-256"])
    server.command("CREATE ROLE site LOGIN PASSWORD 'secret'")
    with psycopg.connect(server.url_of("postgres", "site", "secret", application_name="test")) as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("test",)
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(server.url_of("postgres", "site"), passfile=os.devnull)


def test_a_server_that_cannot_start_says_why(new_postgres_server: NewPostgresServer) -> None:
    with pytest.raises(ServerError, match="no_such_option"):
        new_postgres_server(no_such_option="1")


def test_servers_end_with_a_run_that_is_killed(needs_postgres: None) -> None:
    code = "from tests.support.postgres import start_postgres; s = start_postgres(); "
    code += "print(s.pid, s.directory, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        pid, directory = run.stdout.readline().split()
        processes = [psutil.Process(int(pid)), *psutil.Process(int(pid)).children()]
        run.kill()
    block_until(lambda: not any(map(_lives, processes)), "its processes have ended")
    block_until(lambda: not Path(directory.decode()).exists(), "its directory is gone")


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
