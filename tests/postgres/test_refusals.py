"""Databases that cannot be used: each call says which and why, and receivers wait until somebody changes it."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hybrid_layer.exceptions import ConfigurationError, RemoteUnavailable
from hybrid_layer.postgres.__main__ import main
from hybrid_layer.remote.postgres.hosts import parse_host
from tests.remote.tools import Make, exchange, recovered, refused
from tests.support.certificates import Authority
from tests.support.local_server import LocalServer
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PostgresServer, start_postgres
from tests.support.servers import HOST, free_port


@pytest.fixture
def role(postgres_server: PostgresServer, database: str) -> Iterator[str]:
    """A role with no rights but to connect."""
    name = f"role_{database}"
    postgres_server.command(f"CREATE ROLE {name} LOGIN")
    yield name
    postgres_server.command(f"DROP OWNED BY {name}", database=database)
    postgres_server.command(f"DROP ROLE {name}")


async def test_nobody_listens(make_layer: Make) -> None:
    port = free_port()
    layer = make_layer(hosts=[f"postgresql://postgres@{HOST}:{port}/site"], timeout=0.5)
    await refused(layer, f"{HOST}:{port}/site is not available: .*Connection refused")


async def test_an_unknown_database(make_layer: Make, postgres_server: PostgresServer) -> None:
    layer = make_layer(hosts=[postgres_server.url_of("nowhere")], timeout=2)
    await refused(layer, 'database "nowhere" does not exist')


async def test_a_role_that_may_not_make_the_schema(
    make_layer: Make, postgres_server: PostgresServer, database: str, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until another one has, and lets it use the schema."""
    layer = make_layer(hosts=[postgres_server.url_of(database, role)])
    waiting = asyncio.create_task(layer.receive("normal"))
    with pytest.raises(
        ConfigurationError, match=r"run the SQL that `python -m hybrid_layer\.postgres` prints"
    ) as caught:
        await layer.send("normal", {})
    assert isinstance(caught.value, RemoteUnavailable)
    assert role in str(caught.value)
    await asyncio.to_thread(main, ["--run", postgres_server.url_of(database)])
    with pytest.raises(ConfigurationError, match=f"GRANT USAGE ON SCHEMA hybrid_layer_1 TO {role}"):
        await layer.send("normal", {})
    await asyncio.to_thread(main, ["--run", postgres_server.url_of(database), "--role", role])
    await recovered(lambda: layer.send("normal", {"n": 1}))
    assert await waiting == {"n": 1}
    await exchange(layer)


async def test_connections_used_up(make_layer: Make, postgres_server: PostgresServer, database: str, role: str) -> None:
    await asyncio.to_thread(main, ["--run", postgres_server.url_of(database), "--role", role])
    postgres_server.command(f"ALTER ROLE {role} CONNECTION LIMIT 2")
    address = postgres_server.url_of(database, role)
    layer = make_layer(hosts=[address], timeout=1)
    with psycopg.connect(address), psycopg.connect(address):
        await refused(layer, "too many connections")
    # One session for all that this loop does, and one by which the process is kept alive and remembered.
    await recovered(lambda: exchange(layer))


async def test_an_old_server(make_layer: Make) -> None:
    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    facts = {"server_version": "13.22", "client_encoding": "UTF8", "in_hot_standby": "off"}
    facts["default_transaction_read_only"] = "off"
    greeting = message(b"R", struct.pack("!i", 0))
    greeting += b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in facts.items())
    greeting += message(b"K", struct.pack("!ii", 1, 1)) + message(b"Z", b"I")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (length := await reader.read(4)) and len(body := await reader.read(struct.unpack("!i", length)[0] - 4)):
            writer.write(b"N" if len(body) == 4 else greeting)  # it asks for TLS first

    with LocalServer(answer) as server:
        layer = make_layer(hosts=[f"postgresql://{HOST}:{server.port}"], timeout=2)
        await refused(layer, f"{HOST}:{server.port} is PostgreSQL 13; hybrid_layer needs PostgreSQL 14")


@pytest.mark.usefixtures("needs_pgbouncer")
async def test_a_pooler_of_transactions(make_layer: Make, postgres_server: PostgresServer, database: str) -> None:
    with PgBouncer(postgres_server, pool_mode="transaction") as pooler:
        layer = make_layer(hosts=[pooler.url_of(database)])
        await refused(layer, f":{pooler.port}/{database} is a pooler that lends a session for one transaction")
        with psycopg.connect(pooler.url_of(database)) as others:
            assert others.execute("SHOW enable_seqscan").fetchone() == ("on",)


@pytest.mark.thorough
@pytest.mark.usefixtures("needs_pgbouncer")
async def test_a_pooler_of_sessions_serves(make_layer: Make, postgres_server: PostgresServer, database: str) -> None:
    with PgBouncer(postgres_server, pool_mode="session") as pooler:
        layer = make_layer(hosts=[pooler.url_of(database)])
        await exchange(layer)
        await layer.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(authority: Authority, needs_postgres: None) -> Iterator[PostgresServer]:
    """A server that lets in by TLS and a password alone."""
    certificate, key = authority.issue(HOST)
    access = [f"hostssl all all {HOST}/32 scram-sha-256"]
    with start_postgres(access=access, ssl="on", ssl_cert_file=certificate, ssl_key_file=key) as server:
        server.command("CREATE ROLE site LOGIN SUPERUSER PASSWORD 'secret'")
        yield server


async def test_tls_and_a_password(make_layer: Make, secured: PostgresServer, authority: Authority) -> None:
    trusted = {"sslmode": "verify-full", "sslrootcert": authority.ca}
    await exchange(make_layer(hosts=[secured.url_of("postgres", "site", "secret", **trusted)]))
    entry = {"host": HOST, "port": secured.port, "dbname": "postgres", "user": "site", "password": "secret"}
    await exchange(make_layer(hosts=[entry], connection_kwargs=trusted))


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"password": "hush", "sslmode": "require"}, "password authentication failed"),
        ({"password": "hush", "sslmode": "disable"}, "no encryption"),
        ({"password": "hush", "sslmode": "verify-ca"}, "certificate verify failed"),
        ({"password": "hush", "sslmode": "verify-full", "host": "localhost"}, "does not match host name"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["sslmode"],
)
async def test_what_tls_and_passwords_refuse(
    make_layer: Make,
    secured: PostgresServer,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, str],
    cause: str,
) -> None:
    other = Authority(tmp_path).ca if options["sslmode"] == "verify-ca" else authority.ca
    entry = {"host": HOST, "port": secured.port, "dbname": "postgres", "user": "site", "sslrootcert": other, **options}
    layer = make_layer(hosts=[entry], timeout=2)
    with pytest.raises(RemoteUnavailable, match=cause) as caught:
        await layer.send("normal", {})
    assert "hush" not in str(caught.value) + caplog.text


def test_a_service(postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "services"
    path.write_text(f"[messages]\nhost={HOST}\nport={postgres_server.port}\nuser=postgres\n")
    monkeypatch.setitem(os.environ, "PGSERVICEFILE", str(path))
    parameters: Any = parse_host({"service": "messages"}).parameters()
    with psycopg.connect(**parameters) as connection:
        assert connection.info.port == postgres_server.port
