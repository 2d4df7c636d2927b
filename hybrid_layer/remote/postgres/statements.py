# SPDX-License-Identifier: BSD-3-Clause
"""The calls of functions in the database, and how their arguments and results are written on the wire."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import pq

from hybrid_layer.remote.postgres.schema import SCHEMA

Argument = str | int | bool | bytes | tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A call of `function`, whose arguments have `types` and whose results are decoded by `results`.

    A type is ``s`` text, ``i`` bigint, ``b`` boolean, ``y`` bytea or ``a`` bytea[].
    """

    function: str
    types: str
    results: str
    batched: bool = False
    """It takes the lock of one queue. Calls of one turn of the loop may then be one transaction."""
    name: bytes = field(init=False)
    sql: bytes = field(init=False)
    formats: Sequence[pq.Format] = field(init=False)

    def __post_init__(self) -> None:
        sql_types = {"s": "text", "i": "bigint", "b": "boolean", "y": "bytea", "a": "bytea[]"}
        places = ", ".join(f"${n}::{sql_types[kind]}" for n, kind in enumerate(self.types, 1))
        object.__setattr__(self, "name", self.function.encode())
        object.__setattr__(self, "sql", f"SELECT * FROM {SCHEMA}.{self.function}({places})".encode())
        object.__setattr__(
            self, "formats", [pq.Format.BINARY if kind in "ya" else pq.Format.TEXT for kind in self.types]
        )

    def rows(self, result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
        """The rows of a result in binary format."""
        value, kinds = result.get_value, list(enumerate(self.results))
        return [
            tuple([_READ[kind](found) if (found := value(row, n)) is not None else None for n, kind in kinds])
            for row in range(result.ntuples)
        ]


def encoded(argument: Argument) -> bytes | None:
    """An argument as the server reads it: bytes in binary format, anything else as text."""
    if argument is None or isinstance(argument, bytes):
        return argument
    if isinstance(argument, str):
        return argument.encode("ascii")
    if isinstance(argument, tuple):
        return _array(argument)
    if isinstance(argument, bool):
        return b"t" if argument else b"f"
    return b"%d" % argument


def _array(values: tuple[bytes, ...]) -> bytes:
    """A bytea[] in binary format: dimensions, no NULLs, the type bytea, length, first index; then length and bytes."""
    head = struct.pack("!5i", 1, 0, 17, len(values), 1)
    return head + b"".join(struct.pack("!i", len(value)) + value for value in values)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


_READ: dict[str, Callable[[bytes], Any]] = {
    "s": _text,
    "i": lambda value: int.from_bytes(value, "big", signed=True),
    "b": lambda value: value == b"\x01",
    "y": bytes,
    "v": lambda value: None,
}
"""By the letters of types; ``v`` is void."""

ROWS = "iiissy"
"""Of an entry: its source, id, expiry stamp, epoch, names, payload."""

SEND = Statement("send", "ssissyii", "iibsi", batched=True)
SEND_MULTIPLE = Statement("send_multiple", "ssissaii", "iibsii")
PUT_BACK = Statement("put_back", "ssiiissy", "bb")
TAKE = Statement("take", "ssi", ROWS)
AWAKE = Statement("awake", "s", "v")
MEASURE = Statement("measure", "s", "si")
RENEW = Statement("renew", "ssibsiss", "bsis")
COUNTERS = Statement("counters", "ssiss", "s")
QUEUE_STATE = Statement("queue_state", "sss", "iiii")
RENEW_MACHINE = Statement("renew_machine", "ssiibsisi", "siisi")
FOLLOW = Statement("follow", "siiib", ROWS)
TRIM = Statement("trim", "si", "v")
SWEEP = Statement("sweep", "", "v")
PUBLISH = Statement("publish", "ssibsyi", "bsi")
SUBSCRIBE = Statement("subscribe", "ssib", "v")
UNSUBSCRIBE = Statement("unsubscribe", "ssib", "v")
FETCH = Statement("fetch", "i", "sy")
GROUP_ADD = Statement("group_add", "sssssiississ", "bbsi")
GROUP_DISCARD = Statement("group_discard", "sssssis", "b")
GROUP_SEND = Statement("group_send", "ssyiisssbisis", "iiiisisssi")
GROUP_SEND_MULTIPLE = Statement("group_send_multiple", "ssaiisssbisis", "iiiisisssi")
GROUP_CHANNELS = Statement("group_channels", "ss", "s")
ASK = Statement("ask", "ssyiss", "is")
REGISTER = Statement("register", "sssiii", "isi")
FORGET = Statement("forget", "sssi", "v")
MACHINE_ADD = Statement("machine_add", "ssssiiis", "bbsi")
MACHINE_NOTE = Statement("machine_note", "ssisi", "b")
NOTE = Statement("note", "ssiss", "b")
MARK = Statement("mark", "ss", "v")
FLUSH = Statement("flush", "ss", "ss")
