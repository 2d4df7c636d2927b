"""A sender is killed anywhere between storing a message and having rung for it: nobody is silenced by that.

`core/bells.c` is the same step by step, without Python.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

import pytest

from hybrid_layer.ipc import _core
from tests.ipc.tools import check, layer_of, segment_of
from tests.loops import run
from tests.process_main import Parent
from tests.processes import Process
from tests.stepping import count_calls, kill_at_stop

Spawn = Callable[..., Process]
LONG = 3600 * 10**9
"""Nanoseconds."""
MANY = 60


class Sleeper:
    """A loop that waits for one channel and is woken by its doorbell alone: it never looks for itself."""

    def __init__(self, core: _core.Segment, channel: str) -> None:
        self.core = core
        self.channel = channel
        self.number = core.open_loop()
        path = core.doorbell(self.number)
        os.mkfifo(path, 0o600)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def sleep(self) -> int:
        """How many messages there were."""
        number = 0
        while self.core.pop(self.channel, self.number)[0] is not None:
            number += 1
        while self.core.collect(self.number, True) is not None:
            pass
        return number

    def is_rung(self) -> bool:
        """Whether a byte lies in the doorbell; takes it."""
        if not select.select([self.fd], [], [], 0)[0]:
            return False
        os.read(self.fd, 100)
        return True


def kill_senders(parent: Parent, prefix: str) -> set[tuple[int, bool, bool]]:
    """Whether the killed sender's message was there, whether it had rung, and whether the next message was to ring."""
    layer = layer_of(prefix)

    def send() -> None:
        run(layer.send("x", {"type": "x"}))  # in this thread, the one that is followed

    send()  # imports what is imported late
    sleeper = Sleeper(segment_of(layer).core, "x")
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


def count_calls_of_senders(parent: Parent, prefix: str) -> tuple[list[int], list[int]]:
    """System calls of each send to somebody who sleeps, and of each to somebody who has been rung and is on the way."""
    layer = layer_of(prefix)
    run(layer.send("x", {"type": "x"}))  # imports what is imported late
    sleeper = Sleeper(segment_of(layer).core, "x")

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


@pytest.mark.skipif(_core.PORTABLE, reason="the portable core takes its lock by system calls")
def test_system_calls_of_a_send(prefix: str, spawn: Spawn) -> None:
    """None to who is awake; two to who sleeps: fstat, as other code may have closed the doorbell and opened a file with
    its number, and write. Some more in the first, and in those that look around, a few times a second.
    """
    to_sleeper, to_rung = spawn("tests.ipc.test_ringing:count_calls_of_senders", prefix, flags=()).result(100)
    assert len(to_sleeper) == len(to_rung) == MANY
    assert to_sleeper.count(2) >= MANY - 10, to_sleeper
    assert to_rung.count(0) >= MANY - 10, to_rung
