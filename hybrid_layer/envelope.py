"""What may stand around a payload on its way: fields that travel with a message and are no part of it.

An envelope is the byte 0xC1, the length of the fields in two bytes (the higher one first), the fields as a MessagePack
map, and the payload. MessagePack never begins with 0xC1, JSON begins with ``{``, a Fernet token with a letter: so
most payloads need none, and travel bare. The fields are outside the encryption.

This release writes no field, and passes over those that a later one wrote.
"""

from __future__ import annotations

from hybrid_layer.exceptions import Undecodable

_MARK = b"\xc1"
_HEAD = 3
"""Bytes before the fields."""
_EMPTY = _MARK + b"\0\0"


def enclosed(payload: bytes) -> bytes:
    """`payload`, in an empty envelope if it could be taken for one: a serializer of the user's may write any bytes."""
    return _EMPTY + payload if payload.startswith(_MARK) else payload


def opened(payload: bytes) -> bytes:
    """What is in the envelope, or `payload` itself where there is none. Raises `Undecodable`."""
    if not payload.startswith(_MARK):
        return payload
    end = _HEAD + int.from_bytes(payload[1:_HEAD], "big")
    if len(payload) < max(end, _HEAD):
        raise Undecodable(f"its envelope is cut off after {len(payload)} bytes")
    return payload[end:]
