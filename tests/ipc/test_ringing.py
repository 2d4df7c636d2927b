"""A sender is killed anywhere between storing a message and having rung for it: that silences no reader.

`core/bells.c` is the same step by step, without Python.
"""

from __future__ import annotations

from tests.ipc.sleeper import Sleeper
from tests.ipc.tools import check, layer_of
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.stepping import kill_at_stop

LONG = 3600 * 10**9
"""Nanoseconds."""


def kill_senders(parent: Parent, prefix: str) -> set[tuple[int, bool, bool]]:
    """Whether the killed sender's message was there, whether it had rung, and whether the next message was to ring."""
    layer = layer_of(prefix)

    def send() -> None:
        run(layer.send("x", {"type": "x"}))  # in this thread, the one that is followed

    send()  # imports what is imported late
    sleeper = Sleeper(probe(layer).core, "x")
    sleeper.sleep()
    found = set()
    stop = 0
    while kill_at_stop(stop := stop + 1, send):
        to_wake = bool(sleeper.core.push("x", "", b"", 10, LONG))  # at once: a mark that is 20 ms old would be void
        was_rung = sleeper.is_rung()
        found.add((sleeper.sleep() - 1, was_rung, to_wake))
    sleeper.is_rung()
    assert sleeper.sleep() == 1
    check(layer)
    run(layer.flush())
    return found


def test_next_sender_is_never_silenced(prefix: str, spawn: Spawn) -> None:
    found = spawn("tests.ipc.test_ringing:kill_senders", prefix, flags=()).result(100)
    assert found <= {
        (0, False, True),  # killed before it had stored
        (1, False, True),  # between storing and ringing: the next message rings
        (1, True, True),  # between ringing and noting that
        (1, True, False),  # after that: the sleeper is on its way
    }
    assert {(1, False, True), (1, True, False)} <= found
