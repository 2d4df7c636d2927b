# SPDX-License-Identifier: BSD-3-Clause
"""Commands in the form in which they are sent: packed by hiredis if that is installed, else by redis-py.

redis-py's asyncio connections pack in Python even if hiredis is installed. That takes seven times as long, a tenth of
the whole cost of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

_pack: Callable[[Any], bytes] | None
try:
    from hiredis import pack_command as _pack
except ImportError:
    _pack = None

Command = tuple[str | bytes | int, ...]

_LARGE = 1 << 16
"""Bytes of an argument above which redis-py, which does not copy it, is faster: hiredis takes 1.6 ms for 1 MiB."""


def write(connection: Any, commands: Sequence[Command]) -> None:
    """Send `commands` over redis-py's `connection`. Does not wait until the socket takes them.

    redis-py's own method would wait, but this layer's callers wait for the answers in any case.
    """
    connection._writer.writelines(packed(connection, commands))


def packed(connection: Any, commands: Sequence[Command]) -> Iterable[bytes]:
    """The bytes of `commands`, for redis-py's `connection` to send."""
    if _pack is None or _is_large(commands):
        packets: Iterable[bytes] = connection.pack_commands(commands)
        return packets
    return [_pack(command) for command in commands]


def _is_large(commands: Sequence[Command]) -> bool:
    for command in commands:  # no generators: this runs for each message
        for word in command:
            if type(word) is bytes and len(word) > _LARGE:
                return True
    return False
