# SPDX-License-Identifier: BSD-3-Clause
"""The first commands on a new connection, and what a server's answers to them reveal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import SSLConnection
from redis.exceptions import ConnectionError, InvalidResponse, RedisError, ResponseError

from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import Command, packed
from hybrid_layer.remote.redis.server.errors import WrongServer, safe_text
from hybrid_layer.remote.redis.server.replies import in_info
from hybrid_layer.remote.redis.server.server import Server
from hybrid_layer.statistics import warn

_CLOSED = re.compile(r"closed by server|connection lost|while (?:reading|writing)|reset by peer|broken pipe", re.I)
"""What redis-py says when the other end closes an open connection."""
_ENDING = re.compile("cannot schedule new futures|interpreter shutdown")
"""What Python says when a name is looked up at exit."""


async def ask(server: Server, command: Command) -> Any:
    """The reply to one command, over a new connection. For a refused command, it is the `ResponseError`.

    Raises as `greet`.
    """
    connection = server.new_connection()
    try:
        (reply,) = await greet(connection, [command])
        return reply
    finally:
        await sockets.close(connection)


async def greet(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Open `connection`, run `commands` and return the replies. For a refused command, it is the `ResponseError`.

    Raises `RedisError` or `OSError` if that fails, with the remedy where it can be guessed.
    """
    try:
        await connection.connect()
        sockets.opened(connection)
        await connection.send_packed_command(packed(connection, commands), check_health=False)
        replies = [await _reply(connection) for _ in commands]
        if any("unknown command" in str(reply).lower() for reply in replies if isinstance(reply, ResponseError)):
            await _refuse_sentinel(connection)
        return replies
    except BaseException as error:
        if type(error) is ConnectionError:
            raise ConnectionError(_explained(error, connection)) from None
        if isinstance(error, RedisError) and safe_text(error) != str(error):
            raise type(error)(safe_text(error)) from None
        raise


def _explained(error: ConnectionError, connection: Any) -> str:
    """The text of `error`, with the cause or the likely remedy."""
    text, cause = safe_text(error), error.__context__
    if isinstance(cause, OSError) and "connecting to" in text:
        # redis-py 5 does not say what was wrong with a certificate.
        return text if str(cause.strerror) in text else f"{text} {cause.strerror}"
    if _ENDING.search(text) is not None:
        return f"the interpreter is ending and opens no more connections ({text})"
    if "max number of clients" in text:
        return f"{text}. Raise maxclients of the server, or find what keeps so many connections open."
    if _CLOSED.search(text) is None:
        return text
    text = f"the server closed the connection ({text.rstrip('.')})."
    if not isinstance(connection, SSLConnection):
        return f"{text} If the server speaks TLS, write rediss:// or ssl=True. If not, has it reached maxclients?"
    if connection.certfile is None:
        return f"{text} If the server wants certificates of its clients, give ssl_certfile and ssl_keyfile."
    return f"{text} Perhaps the server does not accept the certificate."


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
    except (ValueError, RecursionError) as error:  # redis-py cannot parse these bytes
        raise InvalidResponse(f"it does not speak the protocol of Redis: {error}") from None


async def _refuse_sentinel(connection: Any) -> None:
    await connection.send_packed_command(packed(connection, [("INFO", "server")]), check_health=False)
    reply = await _reply(connection)
    if isinstance(reply, bytes) and b"_mode:sentinel" in reply:
        raise WrongServer(
            "it is a Sentinel, which stores no messages. Name one of its services: "
            "hosts=[{'sentinels': [(host, port), ...], 'master_name': '...'}]."
        )


def warn_of_eviction(label: str, memory: object) -> None:
    """Warn if the server `label` may remove queues. `memory` is its reply to ``INFO memory``."""
    policy = in_info(memory, b"maxmemory_policy").decode("utf-8", "replace")
    if policy not in ("", "noeviction"):
        warn(
            ("eviction", label),
            f"The server {label} has maxmemory-policy {policy}: when its memory is full, it removes "
            f"whole queues without an error. Set it to noeviction.",
        )
