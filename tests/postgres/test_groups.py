"""Groups in a database: what one call of a function may overlook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.remote.tools import Make
from tests.support.postgres import PostgresServer


async def test_a_process_with_more_inboxes_than_one_call_sends_to(make_layer: Make) -> None:
    """All have the same lock, by which the next call goes on."""
    layer = make_layer()
    names = [await layer.new_channel(f"p{n}") for n in range(70)]
    for name in names:
        await layer.group_add("g", name)
    await layer.group_send("g", {"n": 1})
    assert [await layer.receive(name) for name in names] == [{"n": 1}] * 70


@pytest.mark.parametrize("remote", ["queue", "pubsub"])
async def test_equal_messages_to_a_group(make_layer: Make, remote: str) -> None:
    """The server drops a notification that equals another one of its transaction."""
    layer, other = (make_layer(remote=remote) for _ in range(2))
    names = [await layer.new_channel() for _ in range(2)]
    await layer.group_add("g", names[0])
    await other.group_add("g", names[1])
    await other.group_send_multiple("g", [{"n": 1}] * 20)
    await other.group_send("g", {"n": 2})
    for name in names:
        assert [await layer.receive(name) for _ in range(21)] == [{"n": 1}] * 20 + [{"n": 2}]


@pytest.fixture
def joins(postgres_server: PostgresServer, database: str, prefix: str) -> Callable[[], None]:
    """From then on, `late` is a member of the group, first of all, as soon as a message is stored."""
    table = "hybrid_layer_1.member"
    late = f"'{prefix}|g', 'late', '', '', min(k) - 4, max(until_ms) FROM {table} ON CONFLICT DO NOTHING"

    def made() -> None:
        for sql in (
            f"CREATE FUNCTION joins() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" INSERT INTO {table} SELECT {late}; RETURN NEW; END $$",
            "CREATE TRIGGER joins AFTER INSERT ON hybrid_layer_1.message FOR EACH ROW EXECUTE FUNCTION joins()",
        ):
            postgres_server.command(sql, database=database)

    return made


async def test_a_member_of_unknown_capacity_joins_between_two_messages(
    make_layer: Make, joins: Callable[[], None]
) -> None:
    layer = make_layer(channel_capacity={"jobs*": 5})
    await layer.group_add("g", "jobs")
    await layer.group_send("g", {"n": 1})
    joins()
    await layer.group_send_multiple("g", [{"n": 2}, {"n": 3}])
    await layer.send("jobs", {"n": 4})
    assert [(await layer.receive("jobs"))["n"] for _ in range(4)] == [1, 2, 3, 4]
    assert await layer.receive("late") == {"n": 3}


async def test_a_member_joins_a_large_group_between_two_messages(make_layer: Make, joins: Callable[[], None]) -> None:
    """More calls follow the first one. They go on where that ended, for each message."""
    layer = make_layer()
    names = [f"jobs{n}" for n in range(70)]
    for name in names:
        await layer.group_add("g", name)
    joins()
    await layer.group_send_multiple("g", [{"n": 1}, {"n": 2}])
    await asyncio.gather(*(layer.send(name, {"n": 3}) for name in names))
    for name in names:
        assert [(await layer.receive(name))["n"] for _ in range(3)] == [1, 2, 3]
