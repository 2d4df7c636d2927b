"""A server that speaks the protocol of Redis and gives the answers of a test, for instance nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from hybrid_layer.remote.redis import scripts
from tests.support.local_server import LocalServer

Answer = Callable[[Sequence[bytes]], Any]
EPOCH = b"1-1:0"


def encoded(reply: Any) -> bytes:
    """`reply` in the protocol; an `Exception` is an error, a `bytearray` is sent unchanged."""
    match reply:
        case None:
            return b"*-1\r\n"
        case bytearray():
            return bytes(reply)
        case bool() | int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case Exception():
            return b"-%s\r\n" % str(reply).encode()
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))


def now_ms() -> int:
    """The time, as scripts return it."""
    return int(time.time() * 1000)


def time_reply() -> list[bytes]:
    seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
    return [b"%d" % seconds, b"%d" % micros]


def usual(command: Sequence[bytes]) -> Any:
    """What a server would answer to a command of this layer, as far as callers use it."""
    match command[0].upper():
        case b"TIME":
            return time_reply()
        case b"SCAN":
            return [b"0", []]
        case b"PUBLISH":
            return 1
        case b"EVALSHA":
            return {
                "send": [0, 0, EPOCH, now_ms()],
                "publish": [1, EPOCH, *time_reply()],
                "renew": [0, EPOCH, *time_reply()],
                "group_send": [0, 0, 0, 0, EPOCH, now_ms()],
                "group_publish": [0, 0, 0, 0, EPOCH, now_ms()],
                "group_add": EPOCH,
                "flush": EPOCH,
            }.get(script_of(command), 1)
    return b"OK"


def script_of(command: Sequence[bytes]) -> str:
    """The name of the script that a command runs; empty for other commands."""
    return scripts.BY_SHA[command[1].decode()].name if command[0].upper() == b"EVALSHA" else ""


class OddServer(LocalServer):
    """Answers by `answer`, which is called in a thread of the server, and may block only that."""

    def __init__(self, answer: Answer = usual) -> None:
        self.answer = answer
        super().__init__(self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                command = []
                for _ in range(int(line[1:])):
                    length = int((await reader.readline())[1:])
                    command.append((await reader.readexactly(length + 2))[:-2])
                reply = self.answer(command)
                if asyncio.iscoroutine(reply):
                    reply = await reply
                writer.write(encoded(reply))
