# SPDX-License-Identifier: BSD-3-Clause
"""Checks what was read from a shard before it is handed over: format, flushes, expiry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import Entry, Note
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Reader
from hybrid_layer.supervision import Guard


class Taken(NamedTuple):
    """An entry that was read and must be handed over."""

    entry: Entry
    deadline: float
    """When it expires, on `hybrid_layer.clock`."""
    generation: int
    """The generation of the shard's epoch: a later flush drops the entry."""


class Intake:
    """The checks of one reader of `shard`. `owns` says whether the first name of an entry belongs to the reader."""

    def __init__(self, context: Context, shard: Shard, what: str, owns: Callable[[str], bool] | None = None) -> None:
        self._context = context
        self._shard = shard
        self._owns = owns
        self._guard = Guard(what, context.statistics.count)

    async def take(self, reader: Reader, entries: Sequence[Entry | None], hand_over: Callable[[Taken], None]) -> None:
        """Hand over those of `entries`, just read by `reader`, that are valid. The others are dropped and counted."""
        shard, admitted = self._shard, []
        for entry in entries:
            with self._guard:  # an error may cost this message, but not the rest of the batch
                generation = self.accept(entry)
                if generation is None and entry is not None and shard.epoch.is_past(entry.epoch):
                    await reader.learn_epoch(shard.epoch)  # the server may have lost a flush
                    generation = None if shard.epoch.is_past(entry.epoch) else self.accept(entry)
                if generation is not None and entry is not None:
                    admitted.append((entry, generation))
        try:
            await reader.learn_time(entry.stamp_ms for entry, _ in admitted)
        finally:  # the loop may just have been closed
            now = monotonic()
            for entry, generation in admitted:
                with self._guard:
                    left = shard.clock.left(entry.stamp_ms)
                    if left <= 0:
                        self._context.statistics.count("expired", len(entry.names))
                    else:
                        hand_over(Taken(entry, now + left, generation))

    def accept(self, entry: Entry | None) -> int | None:
        """The generation of `entry` if it is readable, was sent after the last flush, and belongs to the reader."""
        epoch = self._shard.epoch
        current, generation = epoch.snapshot
        if entry is None or (entry.epoch != current and epoch.is_absurd(entry.epoch)):
            self._context.undecodable(self._shard, "an entry")
            return None
        if entry.epoch and entry.epoch != current:
            if not epoch.admits(entry.epoch):
                return None
            current, generation = epoch.snapshot
            if entry.epoch != current and epoch.is_past(entry.epoch):  # a flush, just now
                return None
        if self._owns is not None and not self._owns(entry.names[0]):
            self._context.undecodable(self._shard, "an entry")
            return None
        return generation


def accept_note(context: Context, shard: Shard, note: Note | None) -> Note | None:
    """`note`, or None if it is unreadable or not about this process. That is counted."""
    if note is None or shard.epoch.is_absurd(note.epoch) or (note.member and not context.is_own(note.member)):
        context.undecodable(shard, "a note")
        return None
    return note
