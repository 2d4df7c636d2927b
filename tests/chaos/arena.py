"""Memory that the workers of a round share with the process that runs it: each worker's place, and names to send to."""

from __future__ import annotations

import enum
import mmap
import os
import struct
from pathlib import Path

SEATS = 16
OWN_CHANNELS = 2
_SEAT = 256
_NAME = 100
_INCARNATION = struct.Struct("<I")

CHUNK = 1 << 16
"""Messages that one grinder may send."""
CHUNKS = 1 << 11


class Phase(enum.IntEnum):
    WORK = 0
    FINISH = 1
    """Send nothing more, and end when the last message was read."""


class Doing(enum.IntEnum):
    """What a worker was doing when it was killed."""

    STARTING = 0
    WAITING = 1
    SENDING = 2
    SENDING_TO_A_GROUP = 3
    JOINING_AND_LEAVING = 4
    GRINDING = 5
    LEAVING = 6


class Arena:
    """One file, mapped by all. A seat is a place that one worker after another takes."""

    def __init__(self, path: Path) -> None:
        self._map = _map(path, _SEAT * (SEATS + 1))

    @property
    def phase(self) -> Phase:
        return Phase(self._map[0])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._map[0] = phase

    def clear(self, seat: int) -> None:
        """The seat's worker is dead: no worker must send to it on purpose."""
        self._map[self._at(seat) : self._at(seat + 1)] = bytes(_SEAT)

    def set_doing(self, seat: int, doing: Doing) -> None:
        self._map[self._at(seat)] = doing

    def doing(self, seat: int) -> Doing:
        return Doing(self._map[self._at(seat)])

    def set_finished(self, seat: int) -> None:
        """The worker sends nothing more."""
        self._map[self._at(seat) + 1] = 1

    def is_finished(self, seat: int) -> bool:
        return self._map[self._at(seat) + 1] == 1

    def set_names(self, seat: int, incarnation: int, names: list[str]) -> None:
        """Publish the worker's own channels."""
        at = self._at(seat) + 8
        for name in names:
            self._map[at : at + _NAME] = name.encode().ljust(_NAME, b"\0")
            at += _NAME
        _INCARNATION.pack_into(self._map, self._at(seat) + 4, incarnation)

    def names(self, seat: int) -> tuple[int, list[str]]:
        """Incarnation and own channels of the seat's worker; 0 and none until it has published them."""
        incarnation = self._incarnation(seat)
        at = self._at(seat) + 8
        names = [
            self._map[at + n * _NAME : at + (n + 1) * _NAME].rstrip(b"\0").decode("ascii", "replace")
            for n in range(OWN_CHANNELS)
        ]
        if incarnation == 0 or self._incarnation(seat) != incarnation:
            return 0, []  # there was a change of workers meanwhile
        return incarnation, [name for name in names if name]

    def _incarnation(self, seat: int) -> int:
        number: int = _INCARNATION.unpack_from(self._map, self._at(seat) + 4)[0]
        return number

    def _at(self, seat: int) -> int:
        return _SEAT * (seat + 1)


class Ledger:
    """One byte for each message that grinders send, and one for how often it was taken: too many for a journal."""

    def __init__(self, directory: Path) -> None:
        self.sent = _map(directory / "sent", CHUNK * CHUNKS)
        self.taken = _map(directory / "taken", CHUNK * CHUNKS)


def _map(path: Path, size: int) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, size)
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)
