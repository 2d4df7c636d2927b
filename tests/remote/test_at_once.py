"""Messages that are handed over where they arrive, before the reader's task continues: when, and when not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybrid_layer.clock import boottime
from hybrid_layer.configuration import LayerOptions
from hybrid_layer.policy import Policy
from hybrid_layer.remote.delivery.context import Context, DeliveryOptions
from hybrid_layer.remote.delivery.intake import Intake, Taken
from hybrid_layer.remote.delivery.replies import Batch, Entry
from hybrid_layer.remote.delivery.store import Reader
from tests.remote.stores import Opened, redis_store
from tests.support.servers import Server
from tests.support.waiting import turns, wait_until

# Which messages


@pytest.fixture
def context() -> Context:
    context = Context(Policy(LayerOptions(prefix="test")), DeliveryOptions(timeout=1, block_time=1), ["server"], None)
    context.home.clock.measured(boottime(), boottime())
    context.home.epoch.meet(b"a:3")
    return context


def entry(epoch: bytes = b"a:3", left: float = 60, name: str = "jobs") -> Entry:
    return Entry(int((boottime() + left) * 1000), epoch, [name], b"x")


def taken(context: Context, *entries: Entry | None) -> list[Taken] | None:
    """What is handed over at once; None if nothing is, as the reader has to look first."""
    got: list[Taken] = []
    intake = Intake(context, context.home, "a test", lambda name: name != "foreign")
    if intake.take_at_once(entries, got.append):
        return got
    assert got == []
    return None


def test_valid_messages(context: Context) -> None:
    both = taken(context, entry(), entry(name="other"))
    assert both is not None
    assert [(each.entry.names, each.generation) for each in both] == [
        (["jobs"], context.home.epoch.generation),
        (["other"], context.home.epoch.generation),
    ]


@pytest.mark.parametrize(
    "odd",
    [
        None,
        {"epoch": b"a:2"},
        {"epoch": b"a:4"},
        {"epoch": b"b:0"},
        {"epoch": b""},
        {"left": -1},
        {"name": "foreign"},
    ],
    ids=["unreadable", "before a flush", "after a flush", "another server's", "no epoch", "expired", "a stranger's"],
)
def test_one_that_has_to_be_looked_at_keeps_all_for_the_reader(context: Context, odd: dict[str, Any] | None) -> None:
    """So that none comes before an earlier one."""
    assert taken(context, entry(), None if odd is None else entry(**odd)) is None
    assert context.statistics.as_dict()["undecodable"] == 0, "the reader counts it"


def test_all_go_to_the_reader_while_the_time_is_unknown() -> None:
    context = Context(Policy(LayerOptions(prefix="test")), DeliveryOptions(timeout=1, block_time=1), ["server"], None)
    context.home.epoch.meet(b"a:3")
    assert taken(context, entry()) is None


def test_an_error_costs_its_message_alone(context: Context) -> None:
    got: list[str] = []

    def hand_over(each: Taken) -> None:
        if each.entry.names == ["bad"]:
            raise MemoryError
        got.extend(each.entry.names)

    intake = Intake(context, context.home, "a test")
    assert intake.take_at_once([entry(), entry(name="bad"), entry(name="last")], hand_over)
    assert got == ["jobs", "last"]
    assert context.statistics.as_dict()["errors"] == 1


# When a reader shows them


@contextlib.asynccontextmanager
async def reading(server: Server, prefix: str, notes_of: str = "") -> AsyncIterator[tuple[Opened, Reader]]:
    async with redis_store([server.url], prefix) as opened:
        reader = opened.store.reader(opened.shards[0], notes_of)
        try:
            yield opened, reader
        finally:
            await reader.close()


class Shown:
    """What a reader has shown, and whether that is all there is to do."""

    def __init__(self, does: bool) -> None:
        self.does = does
        self.payloads: list[bytes] = []

    def __call__(self, batch: Batch) -> bool:
        self.payloads += [each.payload for each in batch.entries if each is not None]
        return self.does


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("does", [True, False])
async def test_a_read_returns_only_what_is_not_done(server: Server, prefix: str, count: int, does: bool) -> None:
    async with reading(server, prefix) as (opened, reader):
        shown = Shown(does)
        for n in range(3):
            task = asyncio.create_task(reader.read(["jobs"], count, shown))
            await turns(3)
            await opened.store.send(opened.shards[0], "jobs", b"%d" % n, 100)
            batch = await task
            assert (batch is None) is does
            assert batch is None or [each.payload for each in batch.entries if each is not None] == [b"%d" % n]
        assert shown.payloads == [b"0", b"1", b"2"]
        await opened.store.send(opened.shards[0], "jobs", b"last", 100)
        batch = await reader.read(["jobs"], count)
        assert batch is not None
        assert batch.source == "jobs"


async def test_wakes_and_notes_are_not_shown(server: Server, prefix: str) -> None:
    async with reading(server, prefix, "ME") as (_, reader):
        shown = Shown(True)
        task = asyncio.create_task(reader.read(["jobs"], 1, shown))
        await turns(3)
        reader.interrupt()
        assert await task is None
        server.command("RPUSH", f"{prefix}|1|notes|ME", "-|g|specific.ME!1")
        batch = await reader.read(["jobs"], 10, shown)
        assert batch is not None
        assert len(batch.notes) == 1
        assert shown.payloads == []


async def test_a_cancellation_after_a_message_was_shown(server: Server, prefix: str) -> None:
    """It is neither lost nor returned once more."""
    async with reading(server, prefix) as (opened, reader):
        read: asyncio.Task[Batch | None]

        class Cancelling(Shown):
            def __call__(self, batch: Batch) -> bool:
                read.cancel()
                return super().__call__(batch)

        shown = Cancelling(True)
        read = asyncio.create_task(reader.read(["jobs"], 1, shown))
        await turns(3)
        await opened.store.send(opened.shards[0], "jobs", b"x", 100)
        assert await read is None
        assert reader.cancelled
        assert shown.payloads == [b"x"]
        await wait_until(lambda: not server.command("EXISTS", f"{prefix}|1|queue|jobs"), "the queue is empty")
