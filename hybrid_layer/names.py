"""What a channel or group may be called, and what the parts of a process-specific name mean.

A process-specific channel is called ``prefix.PROCESS!local``: the part up to and including ``!`` is its *non-local*
part, which tells whose channel it is and is what capacity is counted on.
"""

import re
from functools import lru_cache

from hybrid_layer.exceptions import InvalidName

MAX_LENGTH = 99

# Full matches, never ``$``, which lets a final newline pass; spelled out, since ``\d`` and ``\w`` take other scripts.
_CHANNEL = re.compile(r"[A-Za-z0-9_.\-]+(?:![A-Za-z0-9_.\-]*)?")
_GROUP = re.compile(r"[A-Za-z0-9_.\-]+")
_OUTSIDE = re.compile(r"[^A-Za-z0-9_.\-!]")


def check_channel(name: str) -> str:
    """Raise InvalidName unless a channel may have this name. Returns it as a plain str."""
    if not isinstance(name, str) or not _is_channel(name):
        raise InvalidName(_complaint("channel", name))
    # A subclass may say otherwise when it is formatted: an enum's str() is not its value.
    return name if type(name) is str else str.__str__(name)


def check_group(name: str) -> str:
    """Raise InvalidName unless a group may have this name. Returns it as a plain str."""
    if not isinstance(name, str) or not _is_group(name):
        raise InvalidName(_complaint("group", name))
    return name if type(name) is str else str.__str__(name)


def is_process_specific(name: str) -> bool:
    return "!" in name


@lru_cache(maxsize=8192)
def non_local(name: str) -> str:
    """The part up to and including ``!``; the whole name of a normal channel."""
    head, mark, _ = name.partition("!")
    return head + mark


def local(name: str) -> str:
    """What follows the ``!``: which of its process's channels this is; empty for a normal channel."""
    return name.partition("!")[2]


@lru_cache(maxsize=8192)
def process_of(name: str) -> str:
    """``PROCESS`` of ``prefix.PROCESS!local``; without a dot, all that stands before the ``!``."""
    return name.partition("!")[0].rpartition(".")[2]


# A process uses the same few thousand names again and again. Bounded, because clients may choose group names; only the
# verdict is cached, so that a hit costs less than the match.
@lru_cache(maxsize=8192)
def _is_channel(name: str) -> bool:
    return len(name) <= MAX_LENGTH and _CHANNEL.fullmatch(name) is not None


@lru_cache(maxsize=8192)
def _is_group(name: str) -> bool:
    return len(name) <= MAX_LENGTH and _GROUP.fullmatch(name) is not None


def _complaint(kind: str, name: object) -> str:
    shown = repr(name)
    if len(shown) > 2 * MAX_LENGTH:
        shown = shown[: 2 * MAX_LENGTH] + "..."
    return f"Invalid {kind} name {shown}: {_what_is_wrong(kind, name)}."


def _what_is_wrong(kind: str, name: object) -> str:
    if not isinstance(name, str):
        return f"it must be a str, not {type(name).__name__}"
    if not name:
        return "it is empty"
    if len(name) > MAX_LENGTH:
        return f"it has {len(name)} characters; at most {MAX_LENGTH} are allowed"
    outside = _OUTSIDE.search(name)
    if outside is not None:
        return (
            f"{outside[0]!r} at position {outside.start()} is not allowed; use ASCII letters, digits, hyphens, "
            "underscores and periods"
        )
    if kind == "group":
        return 'only the names of process-specific channels have a "!"'
    if name.startswith("!"):
        return 'something must stand before the "!"'
    return 'it has more than one "!"'
