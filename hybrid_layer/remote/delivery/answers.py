# SPDX-License-Identifier: BSD-3-Clause
"""Answers to a roll call, see `roll_calls`."""

from __future__ import annotations

import msgpack

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Store

_ROOM = 2**31
"""Answers that a queue may hold."""


def written_answer(names: list[str]) -> bytes:
    """The answer to a roll call."""
    answer: bytes = msgpack.packb(names)
    return answer


def read_answer(answer: bytes) -> list[str] | None:
    """The names in an answer, or None if it is none."""
    try:
        names = msgpack.unpackb(answer)
    except Exception:  # noqa: BLE001  # of any kind: a stranger's bytes
        return None
    return names if type(names) is list and all(type(name) is str for name in names) else None


async def send_answer(context: Context, store: Store, shard: Shard, reply_to: str, names: list[str]) -> None:
    """Answer a roll call. Without success, its sender reports that an answer is missing."""
    try:
        await store.send(shard, reply_to, written_answer(names), _ROOM, context.options.timeout)
    except RemoteUnavailable:
        return
