"""Checks what was read from a shard before it is handed over: format, flushes, expiry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeGuard

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.delivery.addressee import Taken
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Entry, Note, Reader
from hybrid_layer.supervision import Guard


class Intake:
    """The checks of one reader of `shard`. `owns` says whether the first name of an entry belongs to the reader."""

    def __init__(self, context: Context, shard: Shard, what: str, owns: Callable[[str], bool] | None = None) -> None:
        self._context = context
        self._shard = shard
        self._owns = owns
        self._guard = Guard(what, context.statistics.count)

    async def take(self, reader: Reader, entries: Sequence[Entry | None]) -> list[Taken]:
        """Those of `entries`, just read by `reader`, to hand over. The others are dropped and counted."""
        context, shard, admitted = self._context, self._shard, []
        for entry in entries:
            with self._guard:  # an error may cost this message, but not the rest of the batch
                if self.accepts(entry):
                    admitted.append(entry)
                elif entry is not None and shard.epoch.is_past(entry.epoch):
                    await reader.learn_epoch(shard.epoch)  # the server may have lost a flush
                    if not shard.epoch.is_past(entry.epoch) and self.accepts(entry):
                        admitted.append(entry)
        generation = shard.epoch.generation
        await reader.learn_time(entry.stamp_ms for entry in admitted)
        now, taken = monotonic(), []
        for entry in admitted:
            left = shard.clock.left(entry.stamp_ms)
            if left <= 0:
                context.statistics.count("expired", len(entry.names))
            else:
                taken.append(Taken(entry, now + left, generation))
        return taken

    def accepts(self, entry: Entry | None) -> TypeGuard[Entry]:
        """Whether `entry` is readable, was sent after the last flush, and belongs to the reader."""
        epoch = self._shard.epoch
        if entry is None or (entry.epoch != epoch.current and epoch.is_absurd(entry.epoch)):
            self._context.undecodable(self._shard, "an entry")
            return False
        if entry.epoch != epoch.current and not epoch.admits(entry.epoch):
            return False
        if self._owns is not None and not self._owns(entry.names[0]):
            self._context.undecodable(self._shard, "an entry")
            return False
        return True


def accept_note(context: Context, shard: Shard, note: Note | None) -> Note | None:
    """`note`, or None if it is unreadable or not about this process. That is counted."""
    if note is None or shard.epoch.is_absurd(note.epoch) or (note.member and not context.is_own(note.member)):
        context.undecodable(shard, "a note")
        return None
    return note
