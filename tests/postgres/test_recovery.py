"""A database fails, in every way a server can: what waits lives on, and all works again, groups included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.postgres.names import Names, bell, of_process
from tests.remote.tools import Make, exchange, recovered, resumes
from tests.support.postgres import NewPostgresServer, PostgresServer
from tests.support.probe import probe
from tests.support.waiting import cancelled, receiving, until, wait_until

OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hybrid_layer' AND datname = %s"
TERMINATE = OURS.replace("SELECT pid", "SELECT pg_terminate_backend(pid)")


def crash(server: PostgresServer) -> None:
    """Unread messages and groups are lost with it."""
    server.crash()
    server.restart()


def kill(server: PostgresServer) -> None:
    server.kill()
    server.restart()


def kill_a_session(server: PostgresServer) -> None:
    """The server ends all its sessions and starts anew by itself."""
    server.kill_backend(server.command(OURS, "postgres")[0][0])


FAILURES: dict[str, Callable[[PostgresServer], None]] = {
    "restart": PostgresServer.restart,
    "crash": crash,
    "kill": kill,
    "kill a session": kill_a_session,
}


@pytest.mark.parametrize("remote", ["queue", "pubsub"])
async def test_sessions_end(make_layer: Make, postgres_server: PostgresServer, database: str, remote: str) -> None:
    await resumes(make_layer(remote=remote), lambda: postgres_server.command(TERMINATE, database))


@pytest.mark.thorough
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("remote", ["queue", "pubsub"])
async def test_failures(make_layer: Make, new_postgres_server: NewPostgresServer, failure: str, remote: str) -> None:
    server = new_postgres_server()
    layer, other = (make_layer(hosts=[server.url], remote=remote, timeout=2) for _ in range(2))
    name = await layer.new_channel()
    received = await receiving(layer, name)
    await layer.group_add("own", name)
    await other.group_add("added", name)
    if remote == "queue":
        await wait_until(lambda: probe(layer).would_restore("added", name), "the process knows what the other one did")
    else:  # it subscribes to the group
        await other.group_send("added", {})
        await received[0]
        received = await receiving(layer, name)

    async def has_come(group: str, waiting: asyncio.Task[Any]) -> bool:
        await recovered(lambda: other.group_send(group, {}), 20)
        await asyncio.wait([waiting], timeout=0.1)
        return waiting.done()

    await resumes(other, partial(FAILURES[failure], server))
    for group in ("own", "added"):
        await wait_until(partial(has_come, group, received[0]), "the group has its member again", 20)
        received = await receiving(layer, name)
    await cancelled(*received)


@pytest.mark.thorough
async def test_a_standby_takes_over(make_layer: Make, new_postgres_server: NewPostgresServer) -> None:
    primary = new_postgres_server()
    with primary.start_standby() as standby:
        host = f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/postgres"

        def move() -> None:
            primary.kill()
            standby.promote()

        await resumes(make_layer(hosts=[host], timeout=2), move)


async def test_ids_rise_beyond_a_crash(make_layer: Make, new_postgres_server: NewPostgresServer) -> None:
    """Also those that the log does not have yet: a late trim of earlier entries removes nothing that is new."""
    server = new_postgres_server(wal_writer_delay="10s")
    layer = make_layer(hosts=[server.url], timeout=2)
    await layer.send("normal", {})
    server.command("CHECKPOINT")
    await layer.send_multiple("normal", [{}] * 99)
    last = server.value("SELECT max(id) FROM hybrid_layer_1.message")
    crash(server)
    await recovered(lambda: layer.send("normal", {}), 20)
    assert server.value("SELECT min(id) FROM hybrid_layer_1.message") > last


async def test_a_silent_server(make_layer: Make, new_postgres_server: NewPostgresServer) -> None:
    server = new_postgres_server()
    layer = make_layer(hosts=[server.url], timeout=1)
    waiting = await receiving(layer, "normal")
    server.pause()
    with pytest.raises(RemoteUnavailable, match=f":{server.port}/postgres is not available: no answer within 1 s"):
        await layer.send("normal", {"n": "unsure"})
    server.resume()
    await recovered(lambda: layer.send("normal", {"n": 1}), 20)
    first = await waiting[0]
    if first["n"] == "unsure":  # never sent twice, perhaps once
        first = await layer.receive("normal")
    assert first == {"n": 1}


async def test_the_schema_is_dropped(make_layer: Make, postgres_server: PostgresServer, database: str) -> None:
    layer = make_layer()
    await exchange(layer)
    waiting = await receiving(layer, "normal")
    postgres_server.command("DROP SCHEMA hybrid_layer_1 CASCADE", database=database)
    await recovered(lambda: layer.send("normal", {"n": 1}), 20)
    assert await waiting[0] == {"n": 1}


async def test_a_stranger_holds_a_lock(
    make_layer: Make, postgres_server: PostgresServer, database: str, prefix: str
) -> None:
    """Of a queue. Calls for that queue fail in time; other queues are served."""
    layer = make_layer(timeout=2)
    await layer.send("other", {"n": 1})
    with psycopg.connect(postgres_server.url_of(database), autocommit=True) as stranger:
        stranger.execute("SELECT pg_advisory_lock(%s)", [Names(prefix).number("normal")])
        with pytest.raises(RemoteUnavailable):
            await layer.send("normal", {})
        await recovered(lambda: layer.send("other", {"n": 2}))
    await recovered(lambda: layer.send("normal", {"n": 3}))
    assert [await layer.receive("other") for _ in range(2)] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("remote", ["queue", "pubsub"])
async def test_a_stranger_notifies(
    make_layer: Make, postgres_server: PostgresServer, database: str, prefix: str, remote: str
) -> None:
    """On each channel that the layer listens to: what it does not understand, or did not send."""
    layer, names = make_layer(remote=remote), Names(prefix)
    name = await layer.new_channel()
    await layer.group_add("g", name)
    waiting = await receiving(layer, name, "normal")
    numbers = [names.number_of(name), names.number("normal")]
    channels = [names.epochs, names.group("g"), *map(bell, numbers), *map(of_process, numbers)]
    with psycopg.connect(postgres_server.url_of(database), autocommit=True) as stranger:
        for channel in channels:
            for text in ("", "m", "m|", "0|x", "\u2603" * 100, "b|1|99", "f|x", "-1", "a|", "g|1|e:0||", "n|", "@|1"):
                stranger.execute("SELECT pg_notify(%s, %s)", [channel, text])
    await layer.group_send("g", {"n": 1})
    await layer.send("normal", {"n": 2})
    assert [await task for task in waiting] == [{"n": 1}, {"n": 2}]
    statistics = await layer.statistics()
    assert statistics["errors"] == 0
    assert bool(statistics["undecodable"]) is (remote == "pubsub")


async def test_sessions_survive_what_databases_set(
    make_layer: Make, postgres_server: PostgresServer, database: str
) -> None:
    """An administrator may end idle sessions, and have transactions isolated from one another."""
    for setting in ("idle_session_timeout = 200", "default_transaction_isolation = serializable", "lock_timeout = 1"):
        postgres_server.command(f"ALTER DATABASE {database} SET {setting}")
    layer = make_layer(capacity=3)
    await layer.send("normal", {"n": 1})
    before = set(postgres_server.command(OURS, database))
    loop = asyncio.get_running_loop()
    await until(loop.time() + 0.5)
    await layer.send("normal", {"n": 2})
    assert before <= set(postgres_server.command(OURS, database))
    assert [await layer.receive("normal") for _ in range(2)] == [{"n": 1}, {"n": 2}]
