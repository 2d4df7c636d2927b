# SPDX-License-Identifier: BSD-3-Clause
"""Messages and notes as the database has them, see ``schema/1_tables.sql`` and ``schema/5_published.sql``."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from hybrid_layer.remote.delivery.epoch import number_in, read_epoch
from hybrid_layer.remote.delivery.replies import Entry, Note, StreamItem
from hybrid_layer.remote.delivery.store import Kind
from hybrid_layer.remote.delivery.written import parse_note, read_names, stream_item
from hybrid_layer.transport import Position

Row = tuple[Any, ...]


def entry_of(row: Row) -> Entry | None:
    """The message in a row, or None if it cannot be read."""
    _, number, stamp_ms, epoch, names, payload = row
    return _entry(stamp_ms, epoch.encode(), names, payload, b"%d" % number)


def _entry(stamp_ms: int, epoch: bytes, names: str, payload: bytes | None, raw: bytes = b"") -> Entry | None:
    if payload is None or not names or read_epoch(epoch) is None:
        return None
    return Entry(stamp_ms, epoch, read_names(names) if "," in names else (names,), payload, raw)


def note_of(text: str) -> Note | None:
    """The note, or None if it cannot be read."""
    return parse_note(text.encode())


def item_of(row: Row, machine: str) -> StreamItem:
    """An entry of the stream of `machine`."""
    _, number, _, _, names, payload = row
    return stream_item(Position(number, 0), note_of(names) if payload is None else entry_of(row), machine)


def published(text: bytes, group: str) -> tuple[Kind, str, Any]:
    """What was published, as `hybrid_layer.remote.delivery.store.Take` takes it. `group` is the channel's, or ""."""
    head, _, rest = text.partition(b"|")
    if head == b"m":
        return "mark", "", rest
    if head == b"f":
        return "flush", "", rest
    if head == b"n":
        return "note", "", parse_note(rest)
    try:
        return fetched(text[: text.rindex(b"|") + 1], base64.b64decode(text[text.rindex(b"|") + 1 :]), group)
    except (ValueError, binascii.Error):
        return "group" if group else "direct", group, None


def fetched(head: bytes, payload: bytes, group: str) -> tuple[Kind, str, Any]:
    """As `published`, of a message with its `head`, which ends before the payload. Raises `ValueError`."""
    kind, *fields, _ = head.split(b"|")
    to = group
    if kind == b"a":
        name, *fields = fields
        to = name.decode("ascii")
    stamp, epoch, names = fields
    stamp_ms = number_in(stamp)
    if stamp_ms is None:
        raise ValueError(stamp)
    if kind == b"g":
        return "group", to, Entry(stamp_ms, epoch, ("!",), payload)
    return "added" if kind == b"a" else "direct", to, _entry(stamp_ms, epoch, names.decode("ascii"), payload)


def reference(text: bytes) -> int | None:
    """The id of what was published and must be fetched, or None if `text` is the message itself."""
    return number_in(text[2:]) if text.startswith(b"@|") else None
