"""Bells that carry messages to a process: whatever happens between bell, look and removal, each comes once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from hybrid_layer.exceptions import ChannelFull
from hybrid_layer.remote.postgres.bells import Positions, carried
from hybrid_layer.remote.postgres.names import Names, bell
from tests.remote.tools import Make, recovered
from tests.support.postgres import NewPostgresServer, PostgresServer
from tests.support.waiting import at_rest, cancelled, receiving, until, wait_until

ROWS = "SELECT count(*) FROM hybrid_layer_1.message"
SECRET = "SELECT bell FROM hybrid_layer_1.alive WHERE bell <> ''"
BELL = b"12|1700000000000|abc:0|specific.p!1|eA=="
LARGE = "x" * 6000
"""Too long for a notification."""


def numbered(n: int, text: str = "") -> dict[str, Any]:
    return {"type": "x", "n": n, "text": text}


async def numbers(layer: Any, name: str, count: int) -> list[int]:
    async with asyncio.timeout(20):
        return [(await layer.receive(name))["n"] for _ in range(count)]


@pytest.fixture
def rows(postgres_server: PostgresServer, database: str) -> Callable[[], int]:
    """How many messages the database has."""
    return lambda: int(postgres_server.value(ROWS, database=database))


@pytest.fixture
def looks(postgres_server: PostgresServer, database: str) -> Callable[[], int]:
    """How many entries looks have taken so far: what a bell has carried no look takes."""
    made = """
        CREATE TABLE looks (n bigint); INSERT INTO looks VALUES (0);
        CREATE FUNCTION looked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            IF current_query() LIKE '%.take(%' THEN UPDATE public.looks SET n = n + 1; END IF; RETURN OLD; END $$;
        CREATE TRIGGER looked AFTER DELETE ON hybrid_layer_1.message FOR EACH ROW EXECUTE FUNCTION looked();
    """

    def number() -> int:
        if postgres_server.value("SELECT to_regclass('public.looks') IS NULL", database=database):
            postgres_server.command(made, database=database)
        return int(postgres_server.value("SELECT n FROM public.looks", database=database))

    return number


def test_what_a_bell_carries() -> None:
    found = carried(BELL)
    assert found == ("specific.p!", (0, 12, 1700000000000, "abc:0", "specific.p!1", b"x"))
    for text in (b"", b"12", BELL + b"|", BELL.replace(b"abc:0", b"abc"), BELL.replace(b"!", b"."), b"x" + BELL):
        assert carried(text) is None
    assert carried(BELL.replace(b"eA==", b"eA=")) is None
    assert carried(BELL.replace(b"12|", b"9" * 30 + b"|")) is None
    assert carried(BELL.replace(b"p!1", "\u2603!1".encode())) is None


def test_positions() -> None:
    positions, one, other = Positions(), object(), object()
    row = (0, 7, 1, "abc:0", "i!1", b"")
    assert not positions.take_over(one, "i!", row)  # it has not looked
    positions.begin(one)
    assert positions.take_over(one, "i!", row)
    positions.begin(other)
    assert not positions.take_over(one, "i!", row)
    assert positions.left() == [("i!", 0, 7)]
    positions.removed("i!", 7)
    assert positions.left() == []
    positions.met("abc:5")  # a flush: ids go on
    assert not positions.is_empty
    positions.met("other:0")
    assert positions.is_empty
    positions.removed("i!", 7)  # an answer that comes late
    assert positions.left() == []


async def test_no_look_takes_what_bells_carry(
    make_layer: Make, rows: Callable[[], int], looks: Callable[[], int]
) -> None:
    layer, other = make_layer(), make_layer()
    name = await layer.new_channel()
    waiting = asyncio.create_task(numbers(layer, name, 50))
    await at_rest(layer, name)
    await other.group_add("g", name)
    before = looks()
    for n in range(50):
        await (other.send(name, numbered(n)) if n % 2 else other.group_send("g", numbered(n)))
        await until(time.monotonic() + 0.002)  # else they come faster than one by one
    assert await waiting == list(range(50))
    assert looks() - before < 25
    await wait_until(lambda: not rows(), "the rows are removed")


async def test_bells_and_looks_mixed(make_layer: Make) -> None:
    """Small and large messages, its own and others', one by one and several at once, read now and then."""
    layer, other = make_layer(capacity=1000), make_layer(capacity=1000)
    name = await layer.new_channel()
    got: list[int] = []

    async def receive() -> None:
        while len(got) < 300:
            got.append((await layer.receive(name))["n"])
            if len(got) % 17 == 0:
                await until(time.monotonic() + 0.01)  # meanwhile bells pile up

    receiving = asyncio.create_task(receive())
    await at_rest(layer, name)
    n = 0
    while n < 300:
        sender = (layer, other)[n // 3 % 2]
        if n % 5 == 0:
            await sender.send_multiple(name, [numbered(n + more, LARGE * (more == 1)) for more in range(5)])
            n += 5
        else:
            await sender.send(name, numbered(n, LARGE * (n % 7 == 0)))
            n += 1
        while n % 5:
            await sender.send(name, numbered(n, LARGE * (n % 7 == 0)))
            n += 1
    async with asyncio.timeout(20):
        await receiving
    assert got == list(range(300))


async def test_unread_messages_take_room_and_read_ones_do_not(make_layer: Make) -> None:
    layer, other = make_layer(capacity=100), make_layer(capacity=100)
    name = await layer.new_channel()
    waiting = asyncio.create_task(numbers(layer, name, 5))
    await at_rest(layer, name)
    for n in range(5):
        await other.send(name, numbered(n))
    assert await waiting == list(range(5))
    await other.send_multiple(name, [numbered(n) for n in range(100)])  # at once: the five may have rows yet
    with pytest.raises(ChannelFull):
        await other.send(name, numbered(100))
    assert await numbers(layer, name, 100) == list(range(100))
    await other.send(name, numbered(101))
    assert await numbers(layer, name, 1) == [101]


async def test_sessions_end_before_rows_are_removed(
    make_layer: Make, postgres_server: PostgresServer, database: str
) -> None:
    layer, other = make_layer(), make_layer()
    name = await layer.new_channel()
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hybrid_layer'"
    for n in range(0, 10, 2):
        waiting = asyncio.create_task(numbers(layer, name, 1))
        await at_rest(layer, name)
        await recovered(lambda n=n: other.send(name, numbered(n)))
        assert await waiting == [n]
        postgres_server.command(f"{terminate} AND datname = %s", database, database=database)
        await recovered(lambda n=n: other.send(name, numbered(n + 1)))
        assert await numbers(layer, name, 1) == [n + 1]


async def test_a_crash_after_which_ids_start_over(make_layer: Make, new_postgres_server: NewPostgresServer) -> None:
    """Lower ones are no old ones then."""
    server = new_postgres_server()
    layer, other = (make_layer(hosts=[server.url], timeout=2) for _ in range(2))
    name = await layer.new_channel()
    waiting = asyncio.create_task(numbers(layer, name, 1))
    await at_rest(layer, name)
    await other.send(name, numbered(1))
    assert await waiting == [1]
    usual = server.value("SELECT pg_get_functiondef('hybrid_layer_1.begin_epoch_'::regproc)")
    body = usual.replace("greatest(s.last_value, now * 1000)", "7")
    assert body != usual
    server.command(body)
    server.crash()
    server.restart()
    await recovered(lambda: other.send(name, numbered(2)), 20)
    await other.send(name, numbered(3))
    assert await numbers(layer, name, 2) == [2, 3]
    assert server.value("SELECT last_value FROM hybrid_layer_1.message_id_seq") < 1000


def _die_with_a_message(url: str, prefix: str, names: Any) -> None:
    from hybrid_layer.remote import PostgresChannelLayer

    async def run() -> None:
        layer = PostgresChannelLayer(hosts=[url], prefix=prefix)
        name = await layer.new_channel()
        waiting = asyncio.create_task(layer.receive(name))
        await at_rest(layer, name)
        names.send(name)
        await waiting
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(run())


@pytest.fixture
def dead(postgres_server: PostgresServer, database: str, prefix: str) -> Iterator[Any]:
    """A process that dies as soon as a bell has carried a message to it: before the row is removed."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    arguments = (postgres_server.url_of(database), prefix, theirs)
    process = multiprocessing.get_context("spawn").Process(target=_die_with_a_message, args=arguments)
    process.start()
    yield ours, process
    process.join(10)


async def test_a_process_dies_between_bell_and_removal(make_layer: Make, rows: Callable[[], int], dead: Any) -> None:
    """Nobody gets what it had, and its row is swept up some time after it has expired."""
    pipe, process = dead
    name = await asyncio.to_thread(pipe.recv)
    layer = make_layer()
    await layer.send(name, numbered(1))
    await asyncio.to_thread(process.join, 10)
    assert rows() == 1
    waiting = await receiving(layer, await layer.new_channel())
    await layer.send(name, numbered(2))
    assert rows() == 2
    assert not waiting[0].done()
    await cancelled(*waiting)


async def test_a_stranger_cannot_forge_what_bells_carry(
    make_layer: Make, postgres_server: PostgresServer, database: str, prefix: str
) -> None:
    """The channel that is known carries nothing; what carries something is told to functions of the schema alone."""
    layer, other = make_layer(), make_layer()
    name = await layer.new_channel()
    waiting = asyncio.create_task(numbers(layer, name, 2))
    await at_rest(layer, name)
    forged = BELL.replace(b"specific.p!1", name.encode()).decode()
    postgres_server.command(f"CREATE ROLE stranger_{database} LOGIN")
    try:
        with psycopg.connect(postgres_server.url_of(database, f"stranger_{database}"), autocommit=True) as stranger:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                stranger.execute(SECRET)
            stranger.execute("SELECT pg_notify(%s, %s)", [bell(Names(prefix).number_of(name)), forged])
    finally:
        postgres_server.command(f"DROP ROLE stranger_{database}")
    await other.send(name, numbered(1))
    await other.send(name, numbered(2))
    assert await waiting == [1, 2]
    assert (await layer.statistics())["undecodable"] == 0


async def test_what_cannot_be_read_is_looked_for(
    make_layer: Make, postgres_server: PostgresServer, database: str
) -> None:
    """Also where only a superuser could have put it."""
    layer, other = make_layer(), make_layer()
    name = await layer.new_channel()
    waiting = asyncio.create_task(numbers(layer, name, 2))
    await at_rest(layer, name)
    (secret,) = {row[0] for row in postgres_server.command(SECRET, database=database)}
    for text in ("", "x", "1|2|3", BELL.decode(), "1|x|y|z|" + "\u2603"):
        postgres_server.command("SELECT pg_notify(%s, %s)", secret, text, database=database)
    await other.send(name, numbered(1))
    await other.send(name, numbered(2))
    assert await waiting == [1, 2]


async def test_messages_of_one_turn_are_stored_as_far_as_there_is_room(make_layer: Make) -> None:
    """They travel together, and each sender learns what became of its own."""
    layer = make_layer(capacity=5)
    results = await asyncio.gather(*(layer.send("jobs", numbered(n)) for n in range(8)), return_exceptions=True)
    again = await asyncio.gather(
        *(layer.send("jobs", numbered(n)) for n in (8, 9)), layer.send("others", numbered(0)), return_exceptions=True
    )
    stored = [n for n, result in enumerate(results) if result is None]
    assert len(stored) == 5
    assert [type(result) for result in again] == [ChannelFull, ChannelFull, type(None)]
    assert sorted(await numbers(layer, "jobs", 5)) == stored
    async with asyncio.timeout(10):
        await asyncio.gather(*(layer.send("jobs", numbered(n)) for n in range(5)))
    assert sorted(await numbers(layer, "jobs", 5)) == list(range(5))
    assert (await layer.statistics())["full"] == 5
