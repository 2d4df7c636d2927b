# SPDX-License-Identifier: BSD-3-Clause
"""The envelope around a payload: fields that travel with a message and are no part of it.

An envelope is the byte 0xC1, the length of the fields in two bytes (big-endian), the fields as a MessagePack map, and
the payload. MessagePack never begins with 0xC1, JSON begins with ``{``, a Fernet token with a letter. So most payloads
need no envelope. The fields are not encrypted.

This release writes no fields, and ignores those of later releases.
"""

from __future__ import annotations

from hybrid_layer.exceptions import Undecodable

_MARK = b"\xc1"
_HEAD = 3
"""Bytes before the fields."""
_EMPTY = _MARK + b"\0\0"


def enclosed(payload: bytes) -> bytes:
    """`payload`, in an empty envelope if it begins like one: a user's serializer may write any bytes."""
    return _EMPTY + payload if payload.startswith(_MARK) else payload


def opened(payload: bytes) -> bytes:
    """The content of the envelope, or `payload` itself if it has none. Raises `Undecodable` if it is cut off."""
    if not payload.startswith(_MARK):
        return payload
    end = _HEAD + int.from_bytes(payload[1:_HEAD], "big")
    if len(payload) < max(end, _HEAD):
        raise Undecodable(f"its envelope is cut off after {len(payload)} bytes")
    return payload[end:]
