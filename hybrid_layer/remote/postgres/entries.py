# SPDX-License-Identifier: BSD-3-Clause
"""Messages and notes as the database has them, see ``schema/1_tables.sql`` and ``schema/5_published.sql``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hybrid_layer.exceptions import InvalidName
from hybrid_layer.names import check_channel, check_group, machine_of
from hybrid_layer.remote.delivery.epoch import number_in, read_epoch
from hybrid_layer.remote.delivery.replies import Entry, Note, StreamItem
from hybrid_layer.remote.delivery.store import Kind
from hybrid_layer.transport import Position

Row = tuple[Any, ...]


def entry_of(row: Row) -> Entry | None:
    """The message in a row, or None if it cannot be read."""
    _, number, stamp_ms, epoch, names, payload = row
    return _entry(stamp_ms, epoch.encode(), names, payload, b"%d" % number)


def _entry(stamp_ms: int, epoch: bytes, names: str, payload: bytes | None, raw: bytes = b"") -> Entry | None:
    if payload is None or not names or read_epoch(epoch) is None:
        return None
    return Entry(stamp_ms, epoch, _names(names), payload, raw)


@lru_cache(maxsize=256)  # a group's next message is probably for the same members
def _names(text: str) -> Sequence[str]:
    if "," not in text:
        return (text,)
    inbox, mark, rest = text.partition("!")
    inbox += mark
    return tuple(inbox + name for name in rest.split(","))


def parse_note(text: str) -> Note | None:
    """Read a note: ``+|group|member|stamp|epoch``, ``-|group|member`` or ``f|epoch``. None if it cannot be read."""
    kind, *fields = text.split("|")
    try:
        if kind == "+":
            group, member, stamp, epoch = fields
            stamp_ms = number_in(stamp.encode())
            if stamp_ms is None or read_epoch(epoch.encode()) is None:
                return None
            return Note("+", group, member, stamp_ms, epoch.encode())
        if kind == "-":
            group, member = fields
            return Note("-", group, member)
        if kind == "f":
            (epoch,) = fields
            return None if read_epoch(epoch.encode()) is None else Note("f", epoch=epoch.encode())
        return Note(kind)
    except ValueError:
        return None


def item_of(row: Row, machine: str) -> StreamItem:
    """An entry of the stream of `machine`. What is for another machine's channel counts as one that cannot be read."""
    _, number, _, _, names, payload = row
    position = Position(number, 0)
    try:
        if payload is None:
            return StreamItem(position, note=_machine_note(names, machine))
        entry = entry_of(row)
        if entry is None:
            return StreamItem(position)
        if not names.startswith("="):
            (name,) = entry.names
            return StreamItem(position, entry if machine_of(check_channel(name)) == machine else None)
        group, _, digits = names[1:].partition(",")
        t = number_in(digits.encode())
        if t is None:
            return StreamItem(position)
        return StreamItem(position, entry._replace(names=()), group=check_group(group), t=t)
    except (InvalidName, ValueError):
        return StreamItem(position)


def _machine_note(text: str, machine: str) -> Note | None:
    note = parse_note(text)
    if note is None or note.kind == "f":
        return note
    check_group(note.group)
    return note if machine_of(check_channel(note.member)) == machine else None


def published(text: bytes, group: str) -> tuple[Kind, str, Any]:
    """What was published, as `hybrid_layer.remote.delivery.store.Take` takes it. `group` is the channel's, or ""."""
    head, _, rest = text.partition(b"|")
    if head == b"m":
        return "mark", "", rest
    if head == b"f":
        return "flush", "", rest
    if head == b"n":
        return "note", "", parse_note(rest.decode("ascii", "replace"))
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
