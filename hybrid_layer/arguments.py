# SPDX-License-Identifier: BSD-3-Clause
"""Checks of what a call is given beside names and messages."""

from __future__ import annotations

from hybrid_layer.exceptions import InvalidArgument
from hybrid_layer.options import LARGEST, shown


def check_expiry(expiry: object) -> float:
    """Return `expiry`, in seconds. Raise `InvalidArgument` unless a message may have it."""
    # A bool is an int in Python. No comparison with NaN holds.
    if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or not 0 < expiry <= LARGEST:
        raise InvalidArgument(
            f"expiry={shown(expiry)} is refused: give the seconds for which this message lives, a number above 0 and "
            f"at most {LARGEST:,}, or None for the expiry of the layer."
        )
    return expiry
