# SPDX-License-Identifier: BSD-3-Clause
"""The envelope around a payload: fields that travel with a message and are no part of it.

An envelope is the byte 0xC1, the length of the fields in two bytes (big-endian), the fields as a MessagePack map, and
the payload. MessagePack never begins with 0xC1, JSON begins with ``{``, a Fernet token with a letter. So most payloads
need no envelope. The fields are not encrypted, and any program that may write to the servers can make some up.

The keys are short strings. ``x`` has the channels that get nothing, as `Excluded` does; ``h`` has the headers of a
trace, see `hybrid_layer.propagation`; ``q`` is a `RollCall`, and no message. Those of later releases are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgpack

from hybrid_layer.exceptions import InvalidArgument, Undecodable
from hybrid_layer.interruption import is_foreign
from hybrid_layer.names import MAX_LENGTH
from hybrid_layer.transport import Excluded

MARK = b"\xc1"
_HEAD = 3
"""Bytes before the fields."""
_EMPTY = MARK + b"\0\0"


class RollCall(NamedTuple):
    """Which channels are members of a group?"""

    reply_to: str
    """The queue for the answer, on the group's server: the name of no channel."""
    ends: bool
    """Their memberships end."""


_REPLY_TO = re.compile(r"\?[A-Z2-7]{10}")
_MOST = 0xFFFF
"""Bytes of the fields."""


def fields_without(excluded: Excluded) -> bytes:
    """The fields of a message that `excluded` do not get. Raises `InvalidArgument` if the names are too long."""
    fields: bytes = msgpack.packb({"x": excluded})
    if len(fields) > _MOST:
        raise InvalidArgument(
            f"The names in exclude take {len(fields):,} bytes; at most {_MOST:,} are allowed. Exclude fewer channels."
        )
    return fields


def with_headers(fields: bytes, headers: Mapping[str, str], room: int) -> bytes:
    """`fields`, to which `headers` are added if all of it fits into `room` bytes: no message fails for its trace."""
    if not headers:
        return fields
    both: bytes = msgpack.packb({**(msgpack.unpackb(fields) if fields else {}), "h": dict(headers)})
    return both if len(both) <= min(room, _MOST) else fields


def enclosed(payload: bytes, fields: bytes = b"") -> bytes:
    """`payload` in an envelope with `fields`.

    Without fields, only a payload that begins like an envelope gets one: a user's serializer may write any bytes.
    """
    if fields:
        return MARK + len(fields).to_bytes(2, "big") + fields + payload
    return _EMPTY + payload if payload.startswith(MARK) else payload


def opened(payload: bytes) -> bytes:
    """The content of the envelope, or `payload` itself if it has none. Raises `Undecodable` if it cannot be read."""
    if not payload.startswith(MARK):
        return payload
    excluded_in(payload)  # on every way, the same envelopes are none
    return payload[_end_of_fields(payload) :]


def excluded_in(payload: bytes) -> Excluded:
    """The channels that do not get `payload`, but for names that no channel has. Raises `Undecodable`."""
    found = _fields(payload).get("x", {}) if payload.startswith(MARK) else {}
    if type(found) is not dict:
        raise Undecodable("what its envelope excludes is no map")
    for local_names in found.values():
        if type(local_names) is not list or not all(type(name) is str for name in local_names):
            raise Undecodable("what its envelope excludes is no list of names")
    # msgpack has checked that the keys are str, or bytes.
    return {
        part: tuple(dict.fromkeys(name for name in local_names if len(name) <= MAX_LENGTH and name.isascii()))
        for part, local_names in found.items()
        if type(part) is str and 0 < len(part) <= MAX_LENGTH and part.isascii()
    }


def headers_in(payload: bytes) -> dict[str, str]:
    """The headers in the envelope of `payload`, which could be opened. What is no text is left out."""
    found = _fields(payload).get("h") if payload.startswith(MARK) else None
    if type(found) is not dict:
        return {}
    return {name: text for name, text in found.items() if type(name) is str and type(text) is str}


def roll_call(reply_to: str, ends: bool) -> bytes:
    """An envelope, around nothing, that asks for the members of the group that it is sent to: see `RollCall`."""
    return enclosed(b"", msgpack.packb({"q": [reply_to, ends]}))


def roll_call_in(payload: bytes) -> RollCall | None:
    """The roll call in `payload`, if it is one. Raises `Undecodable`."""
    found = _fields(payload).get("q")
    if found is None:
        return None
    is_one = type(found) is list and len(found) == 2 and type(found[0]) is str and type(found[1]) is bool
    if not is_one or not _REPLY_TO.fullmatch(found[0]):
        raise Undecodable("the roll call in its envelope is none")
    return RollCall(*found)


def without_excluded(channels: Sequence[str], payload: bytes) -> Sequence[str]:
    """Those of `channels` that get `payload`. Raises `Undecodable`."""
    excluded = {part + name for part, names in excluded_in(payload).items() for name in names}
    return [channel for channel in channels if channel not in excluded] if excluded else channels


def _end_of_fields(payload: bytes) -> int:
    end = _HEAD + int.from_bytes(payload[1:_HEAD], "big")
    if len(payload) < max(end, _HEAD):
        raise Undecodable(f"its envelope is cut off after {len(payload)} bytes")
    return end


def _fields(payload: bytes) -> dict[Any, Any]:
    fields = payload[_HEAD : _end_of_fields(payload)]
    if not fields:
        return {}
    try:
        found = msgpack.unpackb(fields)
    except Exception as error:
        if is_foreign(error):
            raise
        raise Undecodable(f"the fields of its envelope are no MessagePack: {type(error).__name__}: {error}") from error
    if type(found) is not dict:
        raise Undecodable("the fields of its envelope are no map")
    return found
