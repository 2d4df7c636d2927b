"""Who makes the schema: `migrate`, `python -m hybrid_layer.postgres`; and which rights that leaves to others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from hybrid_layer.postgres.__main__ import main
from hybrid_layer.remote.postgres.schema import LOCK, REVISION, SCHEMA, script
from tests.support.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
REVISION_OF = f"SELECT {SCHEMA}.revision()"
MIGRATE = """
import sys
from django.conf import settings
port, name, lite = sys.argv[1:]
site = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": port, "NAME": name, "USER": "postgres"}
settings.configure(
    INSTALLED_APPS=["hybrid_layer.postgres"],
    DATABASES={"default": site, "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": lite}},
    USE_TZ=True,
)
import django
from django.core.management import call_command
from django.db import connection
django.setup()

def has_schema():
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regprocedure('hybrid_layer_1.revision()') IS NOT NULL")
        return cursor.fetchone()[0]

call_command("migrate", database="default", verbosity=0)
call_command("migrate", database="lite", verbosity=0)
call_command("makemigrations", check=True, dry_run=True, verbosity=0)
print(has_schema())
call_command("migrate", "hybrid_layer_postgres", "zero", verbosity=0)
print(has_schema())
"""


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    """What the command says."""
    assert main(arguments) == status
    return "".join(capsys.readouterr())


def rights(server: PostgresServer, database: str, user: str) -> Sequence[tuple[str, bool]]:
    """Of each function of the schema, whether the user may call it."""
    return server.command(
        "SELECT p.proname, has_function_privilege(%s, p.oid, 'EXECUTE') FROM pg_proc p JOIN pg_namespace n"
        f" ON n.oid = p.pronamespace WHERE n.nspname = '{SCHEMA}'",
        user,
        database=database,
    )


def test_the_printed_sql_makes_the_schema_and_grants_its_use(
    postgres_server: PostgresServer, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    user = f'site "{database}"'
    quoted = user.replace('"', '""')
    postgres_server.command(f'CREATE ROLE "{quoted}" LOGIN')
    try:
        with psycopg.connect(postgres_server.url_of(database)) as connection:
            connection.execute(said(capsys, "--role", user).encode())
        with psycopg.connect(postgres_server.url_of(database), user=user) as connection:
            assert connection.execute(REVISION_OF).fetchone() == (REVISION,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"TABLE {SCHEMA}.message")
        allowed = dict(rights(postgres_server, database, user))
        assert len(allowed) > 10
        assert {name for name, may_call in allowed.items() if not may_call} == {
            name for name in allowed if name.endswith("_")
        }
    finally:
        postgres_server.command(f'DROP OWNED BY "{quoted}"', database=database)
        postgres_server.command(f'DROP ROLE "{quoted}"')


def test_it_may_run_again(postgres_server: PostgresServer, database: str, capsys: pytest.CaptureFixture[str]) -> None:
    address = postgres_server.url_of(database)
    assert f"/{database} has the schema {SCHEMA}." in said(capsys, "--run", address)
    postgres_server.command(f"INSERT INTO {SCHEMA}.epoch VALUES ('kept', '', 0, false)", database=database)
    said(capsys, "--run", address)
    assert postgres_server.value(f"SELECT prefix FROM {SCHEMA}.epoch", database=database) == "kept"


def test_many_may_run_it_at_once(postgres_server: PostgresServer, database: str) -> None:
    def make(_: int) -> None:
        with psycopg.connect(postgres_server.url_of(database)) as connection:
            connection.execute(f"{LOCK}; {script()}".encode())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make, range(4)))


def test_errors_of_the_command_name_the_host(
    postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "--run", postgres_server.url_of("nowhere", "postgres", "hush"), status=1)
    assert f"127.0.0.1:{postgres_server.port}/nowhere: " in text
    assert 'database "nowhere" does not exist' in text
    assert "hush" not in text
    assert "--run is not a URI" in said(capsys, "--run", "localhost", status=1)
    assert "service no-such: " in said(capsys, "--run", "service=no-such", status=1)


def test_migrate_makes_and_drops_the_schema(postgres_server: PostgresServer, database: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", MIGRATE, str(postgres_server.port), database, tmp_path / "lite.db"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["True", "False"], "")
