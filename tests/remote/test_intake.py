"""What was read is handed over whatever happens meanwhile: one message's error, a loop that is closed, a flush."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from hybrid_layer.clock import boottime
from hybrid_layer.configuration import LayerOptions
from hybrid_layer.policy import Policy
from hybrid_layer.remote.delivery.context import Context, DeliveryOptions
from hybrid_layer.remote.delivery.intake import Intake, Taken
from hybrid_layer.remote.delivery.replies import Entry
from hybrid_layer.remote.delivery.written import parse_note
from hybrid_layer.remote.redis import scripts

pytestmark = pytest.mark.any_server


class Reader:
    """Asks nobody; `error` is what the question for the time meets."""

    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    async def learn_time(self, stamps_ms: Iterable[int]) -> None:
        list(stamps_ms)
        if self._error is not None:
            raise self._error

    async def learn_epoch(self, epoch: Any) -> None:
        pass


@pytest.fixture
def context() -> Context:
    policy = Policy(LayerOptions(prefix="test"))
    context = Context(policy, DeliveryOptions(timeout=1, block_time=1), ["server"], None)
    context.home.clock.measured(boottime(), boottime())
    context.home.epoch.meet(b"a:3")
    return context


def entry(n: int, epoch: bytes = b"a:3") -> Entry:
    return Entry(int((boottime() + 60) * 1000), epoch, [f"jobs{n}"], b"x")


def take(context: Context, entries: list[Entry], hand_over: Callable[[Taken], None], reader: Any = None) -> None:
    asyncio.run(Intake(context, context.home, "a test").take(reader or Reader(), entries, hand_over))


def test_one_that_cannot_be_handed_over_costs_itself_alone(context: Context) -> None:
    got: list[str] = []

    def hand_over(taken: Taken) -> None:
        if taken.entry.names == ["jobs1"]:
            raise MemoryError
        got.extend(taken.entry.names)

    take(context, [entry(n) for n in range(4)], hand_over)
    assert got == ["jobs0", "jobs2", "jobs3"]
    assert context.statistics.as_dict()["errors"] == 1


@pytest.mark.parametrize("error", [GeneratorExit(), RuntimeError("unexpected"), asyncio.CancelledError()], ids=repr)
def test_what_was_read_is_handed_over_if_the_time_cannot_be_asked(context: Context, error: BaseException) -> None:
    got: list[Taken] = []
    with pytest.raises(type(error)):
        take(context, [entry(0)], got.append, Reader(error))
    assert [each.entry.names for each in got] == [["jobs0"]]


def test_each_message_has_the_generation_of_its_own_epoch(context: Context) -> None:
    """One pop may bring what was sent before a flush and after it."""
    got: list[Taken] = []
    before = context.home.epoch.generation
    take(context, [entry(0), entry(1, b"a:4"), entry(2), entry(3, b"a:4")], got.append)
    epoch, after = context.home.epoch.snapshot
    assert epoch == b"a:4"
    assert after != before
    assert [(each.entry.names[0], each.generation) for each in got] == [
        ("jobs0", before),
        ("jobs1", after),
        ("jobs3", after),
    ]


def test_an_outcome_of_a_later_release_is_an_error_of_the_server() -> None:
    assert scripts.SEND.shape([2, 0, b"a:0", 1])
    assert not scripts.SEND.shape([7, 0, b"a:0", 1])


def test_a_note_of_an_unknown_kind_passes_whatever_it_holds() -> None:
    note = parse_note("z|café|x".encode())
    assert note is not None
    assert note.kind == "z"
