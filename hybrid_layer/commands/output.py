# SPDX-License-Identifier: BSD-3-Clause
"""How commands print: text of 80 columns for people, or JSON for programs."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

FORMAT = 1
"""The version of the JSON: it changes when a key goes or means something else, not when one is added."""
WIDTH = 80

_COLOURS = {"red": "31", "yellow": "33", "green": "32", "bold": "1"}


class Output:
    """Where a command prints, and how."""

    def __init__(self, stream: TextIO, command: str, as_json: bool, no_color: bool) -> None:
        self.is_terminal = stream.isatty()
        self.as_json = as_json
        self._stream = stream
        self._command = command
        self._has_colour = self.is_terminal and not no_color and "NO_COLOR" not in os.environ

    def show(self, data: dict[str, Any], lines: Iterable[str]) -> None:
        """Print `data` as one line of JSON, or `lines`."""
        if self.as_json:
            envelope = {"format": FORMAT, "command": self._command}
            self.write(json.dumps({**envelope, **data}, default=_plain) + "\n")
        else:
            self.write("".join(f"{line}\n" for line in lines))

    def refuse(self, text: str) -> None:
        """Tell a program that reads JSON why there is nothing else."""
        if self.as_json:
            self.show({"error": text}, ())

    def write(self, text: str) -> None:
        """Print `text` now, as it is."""
        self._stream.write(text)
        self._stream.flush()

    def coloured(self, text: str, colour: str) -> str:
        """`text` in a colour, on a terminal."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._has_colour else text


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, bytes):
        return f"base64:{base64.b64encode(value).decode()}"
    return str(value)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Lines of a table: the last column is text to the left, cut to `width`; the others are to the right."""
    cells = [headings, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings) - 1)]
    lines = []
    for row in cells:
        line = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=False))
        lines.append(cut(f"{line}  {row[-1]}" if line else row[-1], width).rstrip())
    return lines


def cut(text: str, width: int = WIDTH) -> str:
    """`text`, without what has no place, and without control characters of whoever wrote it."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: width - 3]}..."


def wrapped(text: str, first: str = "") -> list[str]:
    """The lines of `text`. The first begins with `first`, the others with four blanks."""
    return textwrap.wrap(printable(text), WIDTH, initial_indent=first, subsequent_indent="    ")


def printable(text: str) -> str:
    """`text` without control characters."""
    return "".join(char if char.isprintable() else "?" for char in text)


def size(number: float) -> str:
    """Bytes, as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if abs(number) < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds, as people read them."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 90 else f"{hours:.1f} h"


def plural(number: int, noun: str) -> str:
    """``1 process``, ``2 processes``."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"
