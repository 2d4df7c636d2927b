# SPDX-License-Identifier: BSD-3-Clause
"""Checks of what a call is given beside names and messages."""

from __future__ import annotations

from collections.abc import Iterable

from hybrid_layer.exceptions import InvalidArgument
from hybrid_layer.names import check_channel, local, non_local
from hybrid_layer.options import LARGEST, shown
from hybrid_layer.transport import Excluded

_MOST_EXCLUDED = 1000


def check_expiry(expiry: object) -> float:
    """Return `expiry`, in seconds. Raise `InvalidArgument` unless a message may have it."""
    # A bool is an int in Python. No comparison with NaN holds.
    if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or not 0 < expiry <= LARGEST:
        raise InvalidArgument(
            f"expiry={shown(expiry)} is refused: give the seconds for which this message lives, a number above 0 and "
            f"at most {LARGEST:,}, or None for the expiry of the layer."
        )
    return expiry


def check_excluded(exclude: str | Iterable[str]) -> Excluded:
    """Return the channels in `exclude`, a name or a collection of names.

    Raises `InvalidArgument` if it is none, or has more than 1,000; `InvalidName`.
    """
    if not isinstance(exclude, (str, Iterable)):
        raise InvalidArgument(f"exclude={shown(exclude)} is refused: give the name of a channel, or a list of names.")
    names = dict.fromkeys(map(check_channel, [exclude] if isinstance(exclude, str) else exclude))
    if len(names) > _MOST_EXCLUDED:
        raise InvalidArgument(
            f"exclude has {len(names):,} channels; at most {_MOST_EXCLUDED:,} are allowed. Put those that get the "
            f"message into a group of their own."
        )
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(non_local(name), []).append(local(name))
    return {part: tuple(local_names) for part, local_names in parts.items()}
