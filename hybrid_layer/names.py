# SPDX-License-Identifier: BSD-3-Clause
"""Rules for names of channels and groups, and the parts of a process-specific name.

A process-specific channel is called ``prefix.PROCESS!local``. The part up to and including ``!`` is the name
of its inbox, which Channels calls the non-local name: it identifies the process, and capacity is counted for it.
"""

import re
from functools import lru_cache

from hybrid_layer.exceptions import InvalidName

MAX_LENGTH = 99

# Used with fullmatch, as ``$`` matches before a final newline. Spelled out, as ``\d`` and ``\w`` match other scripts.
_CHANNEL = re.compile(r"[A-Za-z0-9_.\-]+(?:![A-Za-z0-9_.\-]*)?")
_GROUP = re.compile(r"[A-Za-z0-9_.\-]+")
_BY_MACHINE = re.compile(r"([A-Z2-7]{10})-[A-Z2-7]{10}")
_OUTSIDE = re.compile(r"[^A-Za-z0-9_.\-!]")


def check_channel(name: str) -> str:
    """Return `name` as a plain str. Raise `InvalidName` unless a channel may have it."""
    if not isinstance(name, str) or not _is_channel(name):
        raise InvalidName(_complaint("channel", name))
    # A subclass may be formatted as something else: an enum's str() is not its value.
    return name if type(name) is str else str.__str__(name)


def check_group(name: str) -> str:
    """Return `name` as a plain str. Raise `InvalidName` unless a group may have it."""
    if not isinstance(name, str) or not _is_group(name):
        raise InvalidName(_complaint("group", name))
    return name if type(name) is str else str.__str__(name)


@lru_cache(maxsize=8192)
def non_local(name: str) -> str:
    """The part up to and including ``!``; the whole name of a normal channel."""
    head, mark, _ = name.partition("!")
    return head + mark


def local(name: str) -> str:
    """The part after ``!``: which of its process's channels this is. Empty for a normal channel."""
    return name.partition("!")[2]


@lru_cache(maxsize=8192)
def process_of(name: str) -> str:
    """``PROCESS`` of ``prefix.PROCESS!local``. Without a dot, everything before the ``!``."""
    return name.partition("!")[0].rpartition(".")[2]


@lru_cache(maxsize=8192)
def machine_of(name: str) -> str:
    """``MACHINE`` of ``prefix.MACHINE-PROCESS!local``, the name of a channel or inbox; "" if it names no machine.

    Other names may contain a hyphen, too. So both ids must have exactly the form of `identity.random_id`.
    """
    found = _BY_MACHINE.fullmatch(process_of(name)) if "!" in name else None
    return found[1] if found is not None else ""


def addressee_of(name: str) -> str:
    """Whom the servers know as the owner of a process-specific channel or inbox: ``@MACHINE``, or its process."""
    machine = machine_of(name)
    return f"@{machine}" if machine else process_of(name)


# A process uses the same few thousand names again and again. Bounded, since clients may choose group names. Only the
# result is cached, so that a hit costs less than a match.
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
        return 'there must be a name before the "!"'
    return 'it has more than one "!"'
