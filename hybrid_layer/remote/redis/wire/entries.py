# SPDX-License-Identifier: BSD-3-Clause
"""The bytes of a message.

The scripts write entries, and the readers parse them. With pub/sub, the sending process writes an entry itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_layer.remote.delivery.epoch import number_in, read_epoch
from hybrid_layer.remote.delivery.replies import Entry
from hybrid_layer.remote.delivery.written import read_names

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
    return read_names(text.decode("ascii")) if b"," in text else [text.decode("ascii")]


def published_entry(stamp_ms: int, channel: str, payload: bytes) -> bytes:
    """An entry without an epoch: its place among published messages shows whether a flush came later."""
    return b"%s|%d||%s|%s" % (_VERSION, stamp_ms, channel.encode("ascii"), payload)
