"""What is read from a shard is checked here before it is handed over: format, flushes, expiry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeGuard

from hybrid_layer.remote.delivery.addressee import Taken
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Entry, Note, Reader
from hybrid_layer.supervision import Guard


class Intake:
    """Of one reader of `shard`. `owns` tells of the first name of an entry whether the reader may have it."""

    def __init__(self, context: Context, shard: Shard, what: str, owns: Callable[[str], bool] | None = None) -> None:
        self._context = context
        self._shard = shard
        self._owns = owns
        self._guard = Guard(what, context.statistics.count)

    async def take(self, reader: Reader, entries: Sequence[Entry | None]) -> list[Taken]:
        """Those of `entries`, which `reader` has just read, that are to be handed over. The others are counted."""
        context, shard, admitted = self._context, self._shard, []
        for entry in entries:
            with self._guard:  # this message may be lost, the rest of the batch need not be
                if self.accepts(entry):
                    admitted.append(entry)
                elif entry is not None and shard.epoch.is_past(entry.epoch):
                    await reader.learn_epoch(shard.epoch)  # the server may have lost a flush
                    if not shard.epoch.is_past(entry.epoch) and self.accepts(entry):
                        admitted.append(entry)
        generation = shard.epoch.generation
        await reader.learn_time(entry.stamp_ms for entry in admitted)
        taken = []
        for entry in admitted:
            left = shard.clock.left(entry.stamp_ms)
            if left <= 0:
                context.statistics.count("expired", len(entry.names))
            else:
                taken.append(Taken(entry, left, generation))
        return taken

    def accepts(self, entry: Entry | None) -> TypeGuard[Entry]:
        """Whether `entry` can be read, and was sent after the last flush."""
        epoch = self._shard.epoch
        if entry is None or epoch.is_absurd(entry.epoch):
            self._context.undecodable(self._shard, "an entry")
            return False
        if not epoch.admits(entry.epoch):
            return False
        if self._owns is not None and not self._owns(entry.names[0]):
            self._context.undecodable(self._shard, "an entry")
            return False
        return True


def accept_note(context: Context, shard: Shard, note: Note | None) -> Note | None:
    """What somebody did to a membership of this process, or None if that cannot be."""
    if note is None or shard.epoch.is_absurd(note.epoch) or (note.member and not context.is_own(note.member)):
        context.undecodable(shard, "a note")
        return None
    return note
