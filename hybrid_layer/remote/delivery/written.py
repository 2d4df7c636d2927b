# SPDX-License-Identifier: BSD-3-Clause
"""What all stores write in the same way: notes, the names of several receivers, and receivers in a machine's stream."""

from __future__ import annotations

from functools import lru_cache

from hybrid_layer.exceptions import InvalidName
from hybrid_layer.names import check_channel, check_group, machine_of
from hybrid_layer.remote.delivery.epoch import number_in, read_epoch
from hybrid_layer.remote.delivery.replies import Entry, Note, StreamItem
from hybrid_layer.transport import Position

_STRANGE = 10**14
"""No registration has such a T: see ``registration.lua`` of Redis."""


@lru_cache(maxsize=16)  # a group's next message is probably for the same members
def read_names(text: str) -> tuple[str, ...]:
    """The names in ``inbox!name,name,...``."""
    inbox, mark, rest = text.partition("!")
    inbox += mark
    return tuple(inbox + name for name in rest.split(","))


def parse_note(raw: bytes) -> Note | None:
    """Read a note: ``+|group|member|stamp|epoch``, ``-|group|member`` or ``f|epoch``. None if it cannot be read."""
    kind, *fields = raw.split(b"|")
    try:
        if kind == b"+":
            group, member, stamp, epoch = fields
            stamp_ms = number_in(stamp)
            is_right = stamp_ms is not None and read_epoch(epoch) is not None
            return Note("+", group.decode("ascii"), member.decode("ascii"), stamp_ms or 0, epoch) if is_right else None
        if kind == b"-":
            group, member = fields
            return Note("-", group.decode("ascii"), member.decode("ascii"))
        if kind == b"f":
            (epoch,) = fields
            return None if read_epoch(epoch) is None else Note("f", epoch=epoch)
        return Note(kind.decode("ascii"))
    except ValueError:
        return None


def stream_item(position: Position, content: Entry | Note | None, machine: str) -> StreamItem:
    """The entry at `position` of the stream of `machine`. `content` is None if it cannot be read.

    What is for another machine's channel counts as such. A message to a group has the one name ``=<group>,<T>``.
    """
    try:
        if isinstance(content, Note):
            return StreamItem(position, note=_checked(content, machine))
        if content is None:
            return StreamItem(position)
        (name,) = content.names
        if not name.startswith("="):
            return StreamItem(position, content if machine_of(check_channel(name)) == machine else None)
        group, _, digits = name[1:].partition(",")
        t = number_in(digits.encode())
        if t is None or t >= _STRANGE:
            return StreamItem(position)
        return StreamItem(position, content._replace(names=()), group=check_group(group), t=t)
    except (InvalidName, ValueError):
        return StreamItem(position)


def _checked(note: Note, machine: str) -> Note | None:
    if note.kind == "f":
        return note
    check_group(note.group)
    return note if machine_of(check_channel(note.member)) == machine else None
