# SPDX-License-Identifier: BSD-3-Clause
"""The bytes of a message and of a note.

The scripts write entries, and the readers parse them. With pub/sub, the sending process writes an entry itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hybrid_layer.remote.delivery.epoch import number_in, read_epoch
from hybrid_layer.remote.delivery.replies import Entry, Note

_VERSION = b"1"


def parse(raw: bytes) -> Entry | None:
    """Read ``1|<expiry stamp>|<epoch>|<names>|<payload>``, see ``scripts/include/queue.lua``.

    None if it is not an entry, or of an unknown version.
    """
    fields = raw.split(b"|", 4) if isinstance(raw, bytes) else ()
    if len(fields) != 5 or fields[0] != _VERSION:
        return None
    stamp_ms = number_in(fields[1])
    if stamp_ms is None or (fields[2] and read_epoch(fields[2]) is None):
        return None
    try:
        return Entry(stamp_ms, fields[2], _names(fields[3]), fields[4], raw)
    except ValueError:
        return None


def _names(text: bytes) -> Sequence[str]:
    return _several(text) if b"," in text else [text.decode("ascii")]


@lru_cache(maxsize=16)  # a group's next message is probably for the same members
def _several(text: bytes) -> tuple[str, ...]:
    inbox, mark, rest = text.decode("ascii").partition("!")
    inbox += mark
    return tuple(inbox + name for name in rest.split(","))


def parse_note(raw: bytes) -> Note | None:
    """Read a note, see ``scripts/include/notes.lua``. None if it cannot be read."""
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


def published_entry(stamp_ms: int, channel: str, payload: bytes) -> bytes:
    """An entry without an epoch: its place among published messages shows whether a flush came later."""
    return b"%s|%d||%s|%s" % (_VERSION, stamp_ms, channel.encode("ascii"), payload)
