"""What a worker has done, written down step by step in a file that outlives it.

One `write` of 32 bytes for each step: a page holds a whole number of them, so a killed process leaves no half of one.
"""

from __future__ import annotations

import enum
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_RECORD = struct.Struct("<BBHIIIdd")
assert 4096 % _RECORD.size == 0


class Op(enum.IntEnum):
    """What was done. Places are numbers: of normal channels, of groups, and of a worker's own channels."""

    SEND = 1
    """To the normal channel `place`."""
    DIRECT = 2
    """To the own channel `place` of the worker `who`."""
    GROUP = 3
    """To the group `place`."""
    RECEIVE = 4
    """From the normal channel `place`."""
    OWN = 5
    """From the own channel `place`."""
    JOIN = 6
    """The own channel `who` joined the group `place`."""
    LEAVE = 7
    OPEN = 8
    """Made an own channel."""


class State(enum.IntEnum):
    BEGUN = 1
    DONE = 2
    REFUSED = 3
    """A full channel: nothing was sent."""
    CANCELLED = 4
    """Stopped waiting in a receive."""
    UNCERTAIN = 5
    """An error that says nothing of whether it was sent: a server that did not answer, or went away."""


class Record(NamedTuple):
    op: int
    state: int
    place: int
    who: int
    number: int
    delay: int
    """Microseconds between `begin` and `end` in which the process could have run, but got no processor."""
    begin: float
    end: float


class Journal:
    """A worker's own; for writing."""

    def __init__(self, directory: Path, incarnation: int) -> None:
        self._fd = os.open(journal_path(directory, incarnation), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def begin(self, op: Op, place: int = 0, who: int = 0, number: int = 0) -> tuple[float, int]:
        """Write down that an operation begins. Pass the result to `end`."""
        begin = time.monotonic()
        os.write(self._fd, _RECORD.pack(op, State.BEGUN, place, who, number, 0, begin, begin))
        return time.monotonic(), run_delay()

    def end(
        self, begun: tuple[float, int], op: Op, state: State, place: int = 0, who: int = 0, number: int = 0
    ) -> None:
        """Write down how it ended."""
        begin, before = begun
        end = time.monotonic()
        delay = max(0, min(run_delay() - before, 2**32 - 1))
        os.write(self._fd, _RECORD.pack(op, state, place, who, number, delay, begin, end))


def read_journal(directory: Path, incarnation: int) -> Iterator[Record]:
    """The records of a worker; none if it was killed before its first."""
    try:
        data = journal_path(directory, incarnation).read_bytes()
    except FileNotFoundError:
        return iter(())
    return (Record._make(fields) for fields in _RECORD.iter_unpack(data))


def journal_path(directory: Path, incarnation: int) -> Path:
    return directory / f"{incarnation}.journal"


def run_delay() -> int:
    """Microseconds that this thread has waited for a processor so far."""
    # By the kernel's accounting. On a busy machine a process may stand still for long, which is no fault of the layer.
    fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    try:
        return int(os.read(fd, 64).split()[1]) // 1000
    finally:
        os.close(fd)
