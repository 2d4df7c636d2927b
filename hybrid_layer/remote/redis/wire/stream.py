# SPDX-License-Identifier: BSD-3-Clause
"""The entries of a machine's stream: messages and notes, see ``scripts/include/stream.lua``."""

from __future__ import annotations

from typing import Any

from hybrid_layer.remote.delivery.replies import StreamItem
from hybrid_layer.remote.delivery.written import parse_note, stream_item
from hybrid_layer.remote.redis.wire.entries import parse
from hybrid_layer.transport import Position

_END = 1 << 64
"""Both numbers of an id are below it."""
_LONGEST_ID = 41
_NOTES = (b"+|", b"-|", b"f|")
"""How a note begins. A message begins with a version, which is a number."""


def read_position(text: object) -> Position | None:
    """The id ``<ms>-<sequence>`` of an entry, or None."""
    if not isinstance(text, bytes) or len(text) > _LONGEST_ID:
        return None
    ms, mark, sequence = text.partition(b"-")
    if not (mark and ms.isdigit() and sequence.isdigit()):
        return None
    found = Position(int(ms), int(sequence))
    return found if max(found) < _END else None


def written_position(position: Position) -> str:
    """An id as servers write it."""
    return f"{position.ms}-{position.sequence}"


def read_answer(reply: object, key: bytes, machine: str) -> list[StreamItem] | None:
    """The entries in the answer to an XREAD of `key`, the stream of `machine`. None if it cannot be such an answer."""
    if reply is None:
        return []
    if not (isinstance(reply, list) and len(reply) == 1 and isinstance(reply[0], list) and len(reply[0]) == 2):
        return None
    name, entries = reply[0]
    if name != key or not isinstance(entries, list):
        return None
    items = []
    for entry in entries:
        position = read_position(entry[0]) if isinstance(entry, list) and len(entry) == 2 else None
        if position is None:
            return None
        items.append(_item(position, entry[1], machine))
    return items


def _item(position: Position, fields: Any, machine: str) -> StreamItem:
    """The entry at `position` of the stream of `machine`, with its `fields` as the server returns them."""
    text = fields[1] if isinstance(fields, list) and len(fields) == 2 else None
    if not isinstance(text, bytes):
        return StreamItem(position)
    if text.startswith(_NOTES):
        return stream_item(position, parse_note(text), machine)
    entry = parse(text)
    return stream_item(position, entry if entry is not None and entry.epoch else None, machine)
