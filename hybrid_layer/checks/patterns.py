# SPDX-License-Identifier: BSD-3-Clause
"""W002 and W003: patterns of `channel_capacity` and `routes` that no channel ever reaches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from django.core.checks import Warning

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.names import MAX_LENGTH

_OF_CHANNELS_1 = re.compile(
    r"\^?(http\\?\.(request|response|disconnect)|websocket\\?\.(connect|receive|disconnect|send))\b"
)
_WILD = re.compile(r"[*?\[]")
_ILLEGAL = re.compile(r"[^A-Za-z0-9_.\-!*?\[\]]")
"""What no channel's name has, and no glob needs."""


def check(alias: str, options: LayerOptions) -> Iterator[Any]:
    """Look at the patterns of both options, in their order."""
    for option in ("channel_capacity", "routes"):
        patterns = getattr(options, option, None)
        if isinstance(patterns, Mapping):
            yield from _check(f"CHANNEL_LAYERS[{alias!r}]: {option}", list(patterns))


def _check(where: str, patterns: list[Any]) -> Iterator[Any]:
    for number, pattern in enumerate(patterns):
        source = pattern if isinstance(pattern, str) else pattern.pattern
        if _OF_CHANNELS_1.match(source):
            yield Warning(
                f"{where} has the pattern {source!r}, a name of Channels 1: nothing sends to such a channel any more.",
                hint="Remove it. Consumers receive on channels such as specific.GV7Q2M4XKA!12: see capacity.",
                id="hybrid_layer.W003",
            )
        elif (reason := _unreachable(pattern, patterns[:number])) is not None:
            yield Warning(
                f"{where} has the pattern {source!r}, which is never reached: {reason}.",
                hint="The first pattern that matches counts. Put the special ones before the general ones.",
                id="hybrid_layer.W002",
            )


def _unreachable(pattern: Any, earlier: list[Any]) -> str | None:
    if not isinstance(pattern, str):
        return None  # what a regular expression matches cannot be told
    if illegal := _ILLEGAL.search(pattern):
        return f"no channel's name has a {illegal[0]!r}"
    if _WILD.search(pattern) is None and len(pattern) > MAX_LENGTH:
        return f"a channel's name has at most {MAX_LENGTH} characters"
    covering = next((each for each in earlier if _covers(each, pattern)), None)
    return covering and f"what it matches, {_source(covering)!r} matches before it"


def _covers(general: Any, pattern: str) -> bool:
    """Whether `general` matches all that the glob `pattern` does, as far as that can be told."""
    is_name = _WILD.search(pattern) is None
    if not isinstance(general, str):
        return is_name and general.match(pattern) is not None
    if is_name:
        return fnmatchcase(pattern, general)
    if "*" not in general or _WILD.search(general.replace("*", "", 1)):
        return False
    # One star, and text around it. The glob's own text must begin and end with that.
    start, _, end = general.partition("*")
    head, tail = _WILD.split(pattern)[0], re.split(r"[*?\]]", pattern)[-1]
    return head.startswith(start) and tail.endswith(end)


def _source(pattern: Any) -> str:
    return pattern if isinstance(pattern, str) else str(pattern.pattern)
