"""How many system calls a send makes. Not of the portable core, which takes its lock by system calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.ipc.sleeper import Sleeper
from tests.ipc.tools import check, layer_of
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.stepping import count_calls

MANY = 60


def count_calls_of_senders(parent: Parent, prefix: str) -> tuple[list[int], list[int]]:
    """System calls of each send to a reader that sleeps, and of each to one that was rung and is waking up."""
    layer = layer_of(prefix)
    run(layer.send("x", {"type": "x"}))  # imports what is imported late
    sleeper = Sleeper(probe(layer).core, "x")

    def send(mark: Callable[[], object]) -> None:
        async def send_all() -> None:
            await layer.send("x", {"type": "x"})  # a forked process attaches first
            for _ in range(MANY):
                mark()
                await layer.send("x", {"type": "x"})
            mark()

        run(send_all())

    def fall_asleep() -> None:
        sleeper.is_rung()
        sleeper.sleep()

    to_sleeper = count_calls(send, fall_asleep)
    fall_asleep()
    to_rung = count_calls(send, sleeper.is_rung)
    fall_asleep()
    check(layer)
    run(layer.flush())
    return to_sleeper, to_rung


def test_system_calls_of_a_send(prefix: str, spawn: Spawn) -> None:
    """None to a loop that is awake; two to one that sleeps: fstat, as other code may have closed the doorbell
    and opened a file with its number, and write. Some more in the first send, and in those that do housekeeping, a few
    times a second.
    """
    for attempt in range(3):  # on a busy machine the sends take long, and more of them do housekeeping
        name = f"{prefix}-{attempt}"
        to_sleeper, to_rung = spawn("tests.ipc.test_system_calls:count_calls_of_senders", name, flags=()).result(100)
        assert len(to_sleeper) == len(to_rung) == MANY
        if to_sleeper.count(2) >= MANY - 10 and to_rung.count(0) >= MANY - 10:
            return
    pytest.fail(f"to a reader that sleeps {to_sleeper}, to one that is awake {to_rung}")
