# SPDX-License-Identifier: BSD-3-Clause
"""The flush epoch of a shard, ``<incarnation>:<flushes>``. By it, a process recognizes what was sent before a flush.

Another incarnation means that the server lost its data. That is not a flush.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Callable
from functools import lru_cache

from hybrid_layer.clock import monotonic

_ANNOUNCED_WITHIN = 2.0
"""Seconds that a flush's announcement may take. It never arrives if the server refused to publish it."""
_MOST_MISSED = 1_000_000
"""Most flushes that a process may have missed."""
_MOST_LEFT = 16
"""Past incarnations to remember. No message is under way for as long as so many last."""
_MOST_DIGITS = 15
"""Most digits of a number in a text. No time and no count has more, and Python refuses thousands of digits."""


_new_generation = itertools.count(1).__next__


def number_in(text: object) -> int | None:
    """`text` as a number: ASCII digits, at most `_MOST_DIGITS`. None for anything else."""
    if isinstance(text, bytes) and len(text) <= _MOST_DIGITS and text.isdigit():
        return int(text)
    return None


@lru_cache(maxsize=16)
def read_epoch(epoch: bytes) -> tuple[bytes, int] | None:
    """The incarnation and the number of flushes in ``<incarnation>:<flushes>``, or None."""
    incarnation, mark, flushes = epoch.rpartition(b":")
    count = number_in(flushes)
    return None if count is None or not mark else (incarnation, count)


@lru_cache(maxsize=16)
def numbers_of(epoch: bytes) -> tuple[int, int] | None:
    """The incarnation and the number of flushes of an epoch as shared memory keeps them: 24 bits and 20 bits."""
    read = read_epoch(epoch)
    return None if read is None else (zlib.crc32(read[0]) & 0xFFFFFF, read[1] & 0xFFFFF)


class Epoch:
    """How often a shard was flushed, as far as this process knows. Any thread may use it.

    With pub/sub, a flush is announced among the messages. A process may learn of it from an answer first. Until the
    announcement arrives, messages without an epoch were sent before the flush.

    `current` holds the generations of all shards, so that a message's generation alone tells whether it was flushed.
    """

    def __init__(self, current: set[int], on_news: Callable[[int, int], None] | None = None) -> None:
        self._current = current
        self._on_news = on_news
        self._lock = threading.Lock()
        self.first = b""
        """The incarnation that this process met first. With another one, the server has lost data since."""
        self._incarnation = b""
        self._flushes = 0
        self._announced = b"", 0
        """The last announcement."""
        self._awaited_until = float("-inf")
        self._left: dict[bytes, int] = {}
        """Past incarnations, each with `flushes_met` at the time when this process noticed that."""
        self.flushes_met = 0
        """The number of flushes that this process has learnt of. Each ended the memberships that it knew."""
        self.snapshot = b"", _new_generation()
        """The epoch that is known, as servers write it, and its `generation`: one object, so that they always match."""
        current.add(self.generation)

    @property
    def generation(self) -> int:
        """The generation of messages that arrive now: another number after each flush, different on each shard."""
        return self.snapshot[1]

    def _begin_generation(self) -> int:
        generation = _new_generation()
        self._current.add(generation)
        self._current.discard(self.generation)
        return generation

    def announced(self, epoch: bytes) -> bool:
        """Learn of an announced epoch. False: it belongs to another database of the server, or is unreadable."""
        read = read_epoch(epoch)
        if read is None or self.is_absurd(epoch):
            return False
        with self._lock:
            incarnation, flushes = self._announced = read
            if incarnation != self._incarnation:
                return False
            is_last = flushes >= self._flushes
            if is_last:
                self.await_no_more()
        self.meet(epoch)
        if is_last:
            with self._lock:
                # Even if the flush was known: messages that have arrived since may be older.
                self.snapshot = self.snapshot[0], self._begin_generation()
        return True

    def flushed(self, epoch: bytes) -> None:
        """Learn of the epoch that this process's flush made. It is a flush even if its incarnation is unknown."""
        incarnation, flushes = read_epoch(epoch) or (self._incarnation, 0)
        with self._lock:
            is_new = incarnation != self._incarnation
            if is_new:
                self._await(incarnation, flushes)
        self.meet(epoch)
        if is_new:
            with self._lock:
                self.flushes_met += 1
                self.snapshot = self.snapshot[0], self._begin_generation()

    def is_absurd(self, epoch: bytes) -> bool:
        """Whether `epoch` has more flushes than can have been missed. Believing it would drop all later messages."""
        read = read_epoch(epoch)
        return read is not None and read[0] == self._incarnation and read[1] > self._flushes + _MOST_MISSED

    def admits(self, epoch: bytes) -> bool:
        """Whether to accept a message with `epoch`, however long it was under way. True without an epoch."""
        if not epoch:
            return True
        if self._left:  # rarely
            left = self._left.get(epoch.rpartition(b":")[0])
            if left is not None:  # a message must not make a past incarnation the current one again
                return left == self.flushes_met
        return self.meet(epoch)

    @property
    def known(self) -> tuple[bytes, int]:
        """The incarnation and the number of flushes, as far as known."""
        with self._lock:
            return self._incarnation, self._flushes

    def is_past(self, epoch: bytes) -> bool:
        """Whether `epoch` is older than the last known flush of its incarnation."""
        read = read_epoch(epoch)
        return read is not None and read[0] == self._incarnation and read[1] < self._flushes

    def answered(self, epoch: bytes, known: tuple[bytes, int]) -> None:
        """Learn of the epoch in a server's answer. `known` is what was known when the server was asked.

        If the answer has fewer flushes, the server has lost some (a replica without them took over) or they never
        happened. The lower number is taken over, or all later messages would count as older than a flush.
        """
        read = read_epoch(epoch)
        with self._lock:
            if read is not None and (self._incarnation, self._flushes) == known and read[0] == known[0]:
                self._flushes = min(self._flushes, read[1])
                if self._announced[0] == read[0] and self._announced[1] > read[1]:
                    self._announced = b"", 0
        self.meet(epoch)

    def _await(self, incarnation: bytes, flushes: int) -> None:
        if self._announced[0] != incarnation or self._announced[1] < flushes:
            self._awaited_until = monotonic() + _ANNOUNCED_WITHIN

    def await_no_more(self) -> None:
        """Stop waiting for an announcement: it may have been published before the subscription began."""
        self._awaited_until = float("-inf")

    def is_awaited(self) -> bool:
        """Whether the announcement of a known flush has not arrived yet."""
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
            generation = self.generation
            if incarnation != self._incarnation:
                # First contact, or the server lost its data. That is not a flush, so received messages stay valid.
                if self._incarnation:
                    if len(self._left) >= _MOST_LEFT:
                        self._left.clear()
                    self._left[self._incarnation] = self.flushes_met
                self.first = self.first or incarnation
                self._left.pop(incarnation, None)  # the server was restored from an older copy
                self._incarnation, self._flushes = incarnation, count
            elif count > self._flushes:
                self._flushes = count
                self._await(incarnation, count)  # before the generation changes, which other threads read first
                self.flushes_met += 1
                generation = self._begin_generation()
            if count == self._flushes:
                self.snapshot = epoch, generation
            return count >= self._flushes
