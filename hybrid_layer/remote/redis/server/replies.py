# SPDX-License-Identifier: BSD-3-Clause
"""The shapes of servers' replies. A reply of another shape is an error of the server, not of the caller.

A broken server, a proxy, or another program at the address may answer anything.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeGuard

from redis.exceptions import RedisError

from hybrid_layer.remote.delivery.epoch import number_in


def next_reply(connection: Any) -> Coroutine[Any, Any, Any]:
    """Wait for the next reply over redis-py's `connection`. A cancellation loses nothing: parsers keep partial replies.

    A refusal is the reply, a `ResponseError`; only a server that loads its data raises `BusyLoadingError`. Raises
    `RedisError` or `OSError` if the connection is lost. redis-py's own method would do the same behind a time limit,
    which this layer has elsewhere, in twice the time.
    """
    reply: Coroutine[Any, Any, Any] = connection._parser.read_response(disable_decoding=True)
    return reply


def answered(reply: Any) -> Any:
    """`reply`. Raises it if it is a refusal."""
    if isinstance(reply, Exception):
        raise reply
    return reply


class OddReply(RedisError):
    """The reply cannot be an answer to the command."""

    def __init__(self, command: object, reply: object) -> None:
        super().__init__(
            f"its answer to {command} is not one that Redis or Valkey gives: {repr(reply)[:100]}. Is another program "
            f"at this address, or a proxy in between?"
        )


def checked(command: object, reply: Any, shape: Callable[[object], bool]) -> Any:
    """`reply` if it has the `shape` of an answer to `command`. Raises `OddReply`."""
    if not shape(reply):
        raise OddReply(command, reply)
    return reply


def is_number(reply: object) -> bool:
    """Whether it is an integer."""
    return isinstance(reply, int)


def is_text(reply: object) -> bool:
    """Whether it is a string, which is bytes here."""
    return isinstance(reply, bytes)


def is_text_or_none(reply: object) -> bool:
    """Bytes, or None for a key that does not exist."""
    return reply is None or isinstance(reply, bytes)


def is_time(reply: object) -> bool:
    """Whether it can be the answer to TIME."""
    return isinstance(reply, list) and len(reply) == 2 and number_in(reply[0]) is not None is not number_in(reply[1])


def are_texts(reply: object) -> TypeGuard[list[bytes]]:
    """Whether it is a list of strings, of any length."""
    return isinstance(reply, list) and all(map(is_text, reply))


def is_pong(reply: object) -> bool:
    """Whether it can be the answer to a PING with a text, over a connection that may be subscribed."""
    return is_text(reply) or (are_texts(reply) and reply[:1] == [b"pong"])


def in_info(reply: object, name: bytes) -> bytes:
    """The field `name` in a reply to INFO. Empty if it is missing; managed servers may forbid the command."""
    lines = reply.splitlines() if isinstance(reply, bytes) else []
    return next((line[len(name) + 1 :].strip() for line in lines if line.startswith(name + b":")), b"")


def is_scan(reply: object) -> bool:
    """Whether it can be the answer to SCAN."""
    return isinstance(reply, list) and len(reply) == 2 and is_text(reply[0]) and are_texts(reply[1])
