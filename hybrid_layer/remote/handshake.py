"""The first words on a new connection, and what a server's answers to them tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import SSLConnection
from redis.exceptions import ConnectionError, InvalidResponse, ResponseError

from hybrid_layer.remote import sockets
from hybrid_layer.remote.refusals import WrongServer
from hybrid_layer.remote.server import Server

Command = tuple[str | bytes | int, ...]


async def ask(server: Server, command: Command) -> Any:
    """The reply to one command over a connection of its own; a refused command's is its `ResponseError`.

    Raises as `greet`.
    """
    connection = server.new_connection()
    try:
        (reply,) = await greet(connection, [command])
        return reply
    finally:
        sockets.closing(sockets.descriptor_of(connection))
        await sockets.close(connection)


async def greet(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Open `connection`, run `commands` and return the replies; a refused command's is its `ResponseError`.

    Raises `RedisError` or `OSError` when that fails, with the remedy where it can be guessed.
    """
    descriptor = -1
    try:
        await connection.connect()
        descriptor = sockets.descriptor_of(connection)
        sockets.opened(descriptor)
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies = [await _reply(connection) for _ in commands]
        if any("unknown command" in str(reply).lower() for reply in replies if isinstance(reply, ResponseError)):
            await _refuse_sentinel(connection)
        return replies
    except BaseException as error:
        sockets.closing(descriptor)
        if type(error) is ConnectionError:
            raise ConnectionError(f"{error} {_explained(error, connection)}".rstrip()) from None
        raise


def _explained(error: ConnectionError, connection: Any) -> str:
    """What the text of `error` lacks, or might lack."""
    cause = error.__context__
    if isinstance(cause, OSError) and "connecting to" in str(error):
        # redis-py 5 does not say what was wrong with a certificate.
        return "" if str(cause.strerror) in str(error) else str(cause.strerror)
    # Else the server closed the connection after it had accepted it.
    if not isinstance(connection, SSLConnection):
        return "If the server speaks TLS, write rediss:// or ssl=True."
    if connection.certfile is None:
        return "If the server wants certificates of its clients, give ssl_certfile and ssl_keyfile."
    return "Perhaps the server does not accept the certificate."


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
    except (ValueError, RecursionError) as error:  # redis-py meets bytes that are not of the protocol
        raise InvalidResponse(f"it does not speak the protocol of Redis: {error}") from None


async def _refuse_sentinel(connection: Any) -> None:
    await connection.send_packed_command(connection.pack_command("INFO", "server"), check_health=False)
    reply = await _reply(connection)
    if isinstance(reply, bytes) and b"_mode:sentinel" in reply:
        raise WrongServer(
            "it is a Sentinel, which keeps no messages. Say which of its services is meant: "
            "hosts=[{'sentinels': [(host, port), ...], 'master_name': '...'}]."
        )
