"""Calls search a queue from the first id that is known, and miss nothing that is before it."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from hybrid_layer.exceptions import ChannelFull
from hybrid_layer.remote.postgres.heads import Heads, Places
from hybrid_layer.remote.postgres.names import Names
from tests.remote.tools import Make
from tests.support.postgres import PostgresServer
from tests.support.waiting import outlive


async def numbers(layer: Any, count: int) -> list[int]:
    async with asyncio.timeout(20):
        return [(await layer.receive("jobs"))["n"] for _ in range(count)]


def test_heads_end_with_the_data() -> None:
    heads = Heads()
    heads.note("q", "abc:0", 7, 1)
    heads.note("r", "abc:1", None, 1)
    assert (heads.of("q"), heads.of("r"), heads.of("s")) == ((7, 1), (0, 1), (0, -1))
    heads.note("r", "other:0", 3, 0)
    assert heads.of("q") == (0, -1)


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("hybrid_layer.remote.postgres.heads.monotonic", lambda: now)
    places = Places()
    assert places.of(["q", "r"]) == [0, 0]
    places.claimed("q", 7)
    assert places.of(["q", "r"]) == [7, 0]
    now += 2
    assert places.of(["q"]) == [0]
    places.claimed("q", 7)
    places.forget()
    assert places.of(["q"]) == [0]


async def test_what_was_put_back_takes_room_and_comes_first(
    make_layer: Make, postgres_server: PostgresServer, database: str, prefix: str
) -> None:
    """Though reader and sender know of later ids. A reader does so whose consumer has left; here it is a superuser."""
    other, sender = (make_layer(capacity=3) for _ in range(2))
    for n in range(3):
        await sender.send("jobs", {"n": n})
    queue = f"{prefix}|jobs"
    claimed = (
        "DELETE FROM hybrid_layer_1.message WHERE id = (SELECT min(id) FROM hybrid_layer_1.message WHERE queue = %s)"
    )
    (row,) = postgres_server.command(
        f"{claimed} RETURNING id, until_ms, epoch, names, payload", queue, database=database
    )
    assert await numbers(other, 1) == [1]
    await sender.send("jobs", {"n": 3})
    put_back = "SELECT stored FROM hybrid_layer_1.put_back(%s, 'jobs', %s, %s, %s, %s, %s, %s)"
    assert postgres_server.value(put_back, prefix, Names(prefix).number("jobs"), *row, database=database)
    with pytest.raises(ChannelFull):
        await sender.send("jobs", {"n": 4})
    assert await numbers(other, 3) == [0, 2, 3]


async def test_removed_entries_that_somebody_may_still_see_are_not_searched(
    make_layer: Make, postgres_server: PostgresServer, database: str
) -> None:
    layer, other = make_layer(), make_layer()
    name = await layer.new_channel()
    visited = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'message_queue'"

    async def exchange(count: int) -> int:
        """Entries of the index that so many messages pass over."""
        before = postgres_server.value(visited, database=database)
        for n in range(count):
            for channel in ("jobs", name):
                receiving = asyncio.create_task(layer.receive(channel))
                await other.send(channel, {"n": n})
                assert await receiving == {"n": n}
        for _ in range(2):
            await outlive(1.2)  # statistics are told once a second, by a session that is used
            await other.send("jobs", {"n": -1})
            assert await layer.receive("jobs") == {"n": -1}
        return int(postgres_server.value(visited, database=database)) - int(before)

    with psycopg.connect(postgres_server.url_of(database)) as report:
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT 1")
        few, many = await exchange(50), await exchange(400)
    assert many < 20_000 + 20 * few  # each passing over all of them would be 160,000
