# SPDX-License-Identifier: BSD-3-Clause
"""The parser of replies: that of hiredis if it is installed, else one in Python with the same interface.

Protocol 2 of Redis. Strings stay bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

MISSING = object()
"""In place of a reply of which not all bytes have arrived."""


class PythonReader:
    """As ``hiredis.Reader``. `feed` takes bytes, `gets` returns the next reply or `notEnoughData`."""

    def __init__(
        self,
        protocolError: Callable[[str], Exception],  # noqa: N803  # the names of hiredis
        replyError: Callable[[str], Any],  # noqa: N803
        notEnoughData: object,  # noqa: N803
    ) -> None:
        self._protocol_error = protocolError
        self._reply_error = replyError
        self._missing = notEnoughData
        self._buffer = bytearray()
        self._at = 0
        self._arrays: list[tuple[list[Any], int]] = []
        """The arrays that are not complete, outermost first, each with the number of its elements."""

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def gets(self) -> Any:
        """Raises what `protocolError` returns if the bytes are no reply."""
        while (value := self._value()) is not self._missing:
            if isinstance(value, list) and self._arrays and self._arrays[-1][0] is value:
                continue  # the array has just begun
            while self._arrays:
                array, length = self._arrays[-1]
                array.append(value)
                if len(array) < length:
                    break
                self._arrays.pop()
                value = array
            else:
                return value
        del self._buffer[: self._at]
        self._at = 0
        return self._missing

    def _value(self) -> Any:
        """The next value: a whole one, or an array that is still empty and is now the innermost of `_arrays`."""
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            return self._missing
        kind, line = self._buffer[self._at : self._at + 1], bytes(self._buffer[self._at + 1 : end])
        begin = end + 2
        if kind == b"$":
            length = self._number(line)
            if length >= 0:
                end = begin + length
                if len(self._buffer) < end + 2:
                    return self._missing
                self._at = end + 2
                return bytes(self._buffer[begin:end])
        self._at = begin
        if kind == b"+":
            return line
        if kind == b"-":
            return self._reply_error(line.decode("utf-8", "replace"))
        if kind == b":":
            return self._number(line)
        if kind == b"$":
            return None
        if kind != b"*":
            raise self._protocol_error(f"Protocol error, got {bytes(kind)!r} as reply type byte")
        length = self._number(line)
        if length <= 0:
            return None if length < 0 else []
        array: list[Any] = []
        self._arrays.append((array, length))
        return array

    def _number(self, line: bytes) -> int:
        digits = line.removeprefix(b"-")
        if not digits.isdigit() or len(digits) > 19:
            raise self._protocol_error(f"Protocol error, got {line[:20]!r} as a number")
        return int(line)


Reader: Any
if not TYPE_CHECKING:
    try:
        from hiredis import Reader
    except ImportError:
        Reader = PythonReader
