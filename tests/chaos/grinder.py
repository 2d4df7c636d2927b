"""A worker that calls the C core in a tight loop, so that it is inside the segment's lock for much of its time."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from typing import TypeVar

from hybrid_layer.identity import random_id
from hybrid_layer.ipc import IPCChannelLayer, _core
from tests.chaos.arena import CHUNK, Ledger
from tests.support.probe import probe

T = TypeVar("T")

CHANNELS = ["grind.0", "grind.1"]
_GROUP = "grinders"
_ID = struct.Struct("<I")
_HOUR = 3600 * 10**9
_MILLISECOND = 10**6
_NO_LOOP = -1
_LARGE = bytes(70_000)


def grind(
    layer: IPCChannelLayer, ledger: Ledger, chunk: int, random_: random.Random, is_working: Callable[[], bool]
) -> None:
    """Push and pop on channels that all grinders share, and join, leave and send to a group of theirs."""
    grinder = _Grinder(probe(layer).core, ledger, chunk)
    while is_working():
        step = random_.choice(_STEPS)
        try:
            for _ in range(50):
                step(grinder)
        except (_core.Busy, _core.Full):
            pass  # the next try has better luck
    os.unlink(grinder.core.doorbell(grinder.loop))


def _patiently(call: Callable[[], T]) -> T:
    while True:
        try:
            return call()
        except _core.Busy:
            pass


class _Grinder:
    def __init__(self, core: _core.Segment, ledger: Ledger, chunk: int) -> None:
        self.core = core
        self.ledger = ledger
        self.next = chunk * CHUNK
        self.end = self.next + CHUNK
        self.last: dict[int, int] = {}
        """For each sender, the last message that this worker took, by channel."""
        self.inbox = f"grind.{random_id()}!"
        _patiently(lambda: core.open_inbox(self.inbox))
        self.loop = _patiently(core.open_loop)
        os.mkfifo(core.doorbell(self.loop), 0o600)
        self.bell = os.open(core.doorbell(self.loop), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def push(self) -> None:
        self._push(b"")

    def push_large(self) -> None:
        self._push(_LARGE)
        self.pop()

    def pop(self) -> None:
        self._pop(_NO_LOOP)

    def pop_and_wait(self) -> None:
        """As an event loop does: if there is no message, it is rung for the next one."""
        self._pop(self.loop)
        self.core.collect(self.loop, True)
        self.core.repoll(self.loop)
        for channel in CHANNELS:
            self.core.unwait(channel, self.loop)

    def _pop(self, loop: int) -> None:
        for number, channel in enumerate(CHANNELS):
            payload, *_ = self.core.pop(channel, loop)
            if payload is not None:
                self._taken(number, payload)

    def push_and_pop(self) -> None:
        self.push()
        self.pop()

    def meet(self) -> None:
        self.core.group_add(_GROUP, self.inbox, "a", _HOUR)
        self.core.group_add(_GROUP, self.inbox, "b", _HOUR)
        self.core.group_add(_GROUP, self.inbox, "c", _MILLISECOND)
        self.core.group_send(_GROUP, b"x" * 200, 100_000, {}, 10**9)
        self.core.drain(self.inbox, _NO_LOOP)
        self.core.group_discard(_GROUP, self.inbox, "a")

    def expire(self) -> None:
        """Channels that no worker reads, for the sweeps."""
        self.core.push(f"litter.{self.next % 100}", "", b"x" * 200, 10, _MILLISECOND)

    def _push(self, rest: bytes) -> None:
        number = self.next
        if number == self.end:
            self.pop()
            return
        self.next += 1  # a number whose send was refused is not used again
        try:
            self.core.push(CHANNELS[number & 1], "", _ID.pack(number) + rest, 200, _HOUR)
        except _core.Full:
            return
        self.ledger.sent[number] = 1

    def _taken(self, channel: int, payload: bytes) -> None:
        (number,) = _ID.unpack_from(payload)
        self.ledger.taken[number] += 1
        sender = number // CHUNK << 1 | channel
        if self.last.get(sender, -1) >= number:
            raise AssertionError(f"grinder's message {number} after {self.last[sender]}")
        self.last[sender] = number


_STEPS = [
    *[_Grinder.push_and_pop] * 5,
    *[_Grinder.push, _Grinder.pop, _Grinder.push_large],
    *[_Grinder.pop_and_wait, _Grinder.meet, _Grinder.expire],
]
