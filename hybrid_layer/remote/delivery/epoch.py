"""The flush epoch of a shard, ``<incarnation>:<flushes>``: how a process tells what was sent before a flush.

Another incarnation means that the server lost its data, which is no flush.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from functools import lru_cache

from hybrid_layer.clock import monotonic

_ANNOUNCED_WITHIN = 2.0
"""Seconds that a flush's announcement may need. One that never comes was refused to whoever flushed."""
_MOST_MISSED = 1_000_000
"""Flushes that a process may not have heard of."""
_MOST_LEFT = 16
"""Incarnations that are remembered as over. A message is not on its way for as long as so many take."""
_MOST_DIGITS = 15
"""Of a number in a text. More are no time and no count, and Python refuses some thousands of them."""


def number_in(text: object) -> int | None:
    """The number that `text` is: ASCII digits, and not absurdly many."""
    if isinstance(text, bytes) and len(text) <= _MOST_DIGITS and text.isdigit():
        return int(text)
    return None


@lru_cache(maxsize=16)
def read_epoch(epoch: bytes) -> tuple[bytes, int] | None:
    """The incarnation and the number of flushes in ``<incarnation>:<flushes>``, or None."""
    incarnation, mark, flushes = epoch.rpartition(b":")
    count = number_in(flushes)
    return None if count is None or not mark else (incarnation, count)


class Epoch:
    """How often a shard was flushed, as far as this process knows. Any thread may use it.

    With pub/sub, a flush is announced among the messages. A process may learn of it from an answer first: until the
    announcement is heard, what comes without an epoch was sent before the flush.
    """

    def __init__(self, on_news: Callable[[int, int], None] | None = None) -> None:
        self._on_news = on_news
        self._lock = threading.Lock()
        self._incarnation = b""
        self._flushes = 0
        self._heard = b"", 0
        """The announcement that was heard last."""
        self._awaited_until = float("-inf")
        self._left: dict[bytes, int] = {}
        """Incarnations that are over, and the generation in which that was learnt."""
        self.generation = 0
        """Moves with every flush that this process learns of."""

    def heard(self, epoch: bytes) -> bool:
        """Learn of an epoch that was just announced. False: it is of another database of the server, or unreadable."""
        read = read_epoch(epoch)
        if read is None or self.is_absurd(epoch):
            return False
        with self._lock:
            incarnation, flushes = self._heard = read
            if incarnation != self._incarnation:
                return False
            if flushes >= self._flushes:
                self.await_no_more()
        self.meet(epoch)
        return True

    def flushed(self, epoch: bytes) -> None:
        """Learn of the epoch that this process made by a flush: news, even if it is of an unknown incarnation."""
        incarnation, flushes = read_epoch(epoch) or (self._incarnation, 0)
        with self._lock:
            is_new = incarnation != self._incarnation
            if is_new:
                self._await(incarnation, flushes)
        self.meet(epoch)
        if is_new:
            with self._lock:
                self.generation += 1

    def is_absurd(self, epoch: bytes) -> bool:
        """Whether so many flushes cannot have been missed. To believe it would be to drop all that is sent from now."""
        read = read_epoch(epoch)
        return read is not None and read[0] == self._incarnation and read[1] > self._flushes + _MOST_MISSED

    def admits(self, epoch: bytes) -> bool:
        """Whether what carries `epoch` is to be taken in, however long it was on its way; without one, it is."""
        if not epoch:
            return True
        if self._left:  # hardly ever
            left = self._left.get(epoch.rpartition(b":")[0])
            if left is not None:  # not today's again because of a message
                return left == self.generation
        return self.meet(epoch)

    @property
    def known(self) -> tuple[bytes, int]:
        """The incarnation and the number of flushes, as far as known."""
        with self._lock:
            return self._incarnation, self._flushes

    def is_past(self, epoch: bytes) -> bool:
        """Whether `epoch` is older than the last flush that is known of its incarnation."""
        read = read_epoch(epoch)
        return read is not None and read[0] == self._incarnation and read[1] < self._flushes

    def answered(self, epoch: bytes, known: tuple[bytes, int]) -> None:
        """Learn of the epoch that a server told when it was asked, at a time when `known` was known.

        If it tells of fewer flushes, it has lost some: a replica took over that had not heard of them, or nobody made
        them. Else all that it stores from now on would count as older than a flush.
        """
        read = read_epoch(epoch)
        with self._lock:
            if read is not None and (self._incarnation, self._flushes) == known and read[0] == known[0]:
                self._flushes = min(self._flushes, read[1])
                if self._heard[0] == read[0] and self._heard[1] > read[1]:
                    self._heard = b"", 0
        self.meet(epoch)

    def _await(self, incarnation: bytes, flushes: int) -> None:
        if self._heard[0] != incarnation or self._heard[1] < flushes:
            self._awaited_until = monotonic() + _ANNOUNCED_WITHIN

    def await_no_more(self) -> None:
        """Wait for no announcement: it may have been made before anybody listened."""
        self._awaited_until = float("-inf")

    def is_awaited(self) -> bool:
        """Whether a flush is known whose announcement is still to come."""
        return monotonic() < self._awaited_until

    def meet(self, epoch: bytes) -> bool:
        """Learn of an epoch. False: it is older than the last flush."""
        read = read_epoch(epoch)
        if read is None:
            return True
        incarnation, count = read
        if self._on_news is not None and (incarnation != self._incarnation or count > self._flushes):
            self._on_news(zlib.crc32(incarnation), count)
        with self._lock:
            if incarnation != self._incarnation:
                # First contact, or the server lost its data: that is no flush, so what is in hand stays good.
                if self._incarnation:
                    if len(self._left) >= _MOST_LEFT:
                        self._left.clear()
                    self._left[self._incarnation] = self.generation
                self._left.pop(incarnation, None)  # the server was restored from an older copy
                self._incarnation, self._flushes = incarnation, count
            elif count > self._flushes:
                self._flushes = count
                self._await(incarnation, count)  # before the generation moves, which others read first
                self.generation += 1
            return count >= self._flushes
