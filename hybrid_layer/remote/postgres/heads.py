# SPDX-License-Identifier: BSD-3-Clause
"""Below which ids queues have nothing, so that no call need pass over removed entries.

These stay in the index while any transaction of the database may see them, such as a report: thousands for each call.
"""

from __future__ import annotations

from hybrid_layer.clock import monotonic

_MOST = 8192
_PATIENCE = 1.0
"""Seconds after which a reader looks from the beginning: what another one had when its session broke is there."""


class Heads:
    """What answers have said of one database: the first id of each queue, as long as nothing is put back there.

    Any thread may use it.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int]] = {}
        self._incarnation = ""

    def of(self, queue: str) -> tuple[int, int]:
        """An id below which `queue` had nothing, and how many messages had been put back then."""
        return self._known.get(queue, (0, -1))

    def note(self, queue: str, epoch: str, head: int | None, returns: int) -> None:
        """Note what an answer of the server, whose epoch this is, has said."""
        incarnation = epoch.partition(":")[0]
        if incarnation != self._incarnation or len(self._known) >= _MOST:
            self._incarnation, self._known = incarnation, {}  # ids may have begun anew
        self._known[queue] = head or 0, returns


class Places:
    """From which ids the reader of normal channels looks."""

    def __init__(self) -> None:
        self._lows: dict[str, int] = {}
        self._until = 0.0

    def of(self, queues: list[str]) -> list[int]:
        """Of each of `queues`."""
        if monotonic() >= self._until:
            self.forget()
            self._until = monotonic() + _PATIENCE
        return [self._lows.get(queue, 0) for queue in queues]

    def claimed(self, queue: str, number: int) -> None:
        """A look has claimed the entry with the id `number`. Those before it had gone, or were being claimed."""
        self._lows[queue] = number

    def forget(self) -> None:
        """Something was put back, or the server may have lost its data."""
        self._lows.clear()
