"""Which process this is, and random ids for names.

What belongs to one process must not be used by a forked child, or parent and child would read each other's messages.
Whoever keeps such state keeps the `Identity` beside it and compares with ``is``: another object means that the state
was inherited over a fork, and then not even its locks may be touched.
"""

from __future__ import annotations

import base64
import os


class Identity:
    """A process. Compared by object identity only."""

    __slots__ = ()


current = Identity()
"""The identity of this process. After a fork it is another one: to be read as ``identity.current``, never imported."""


def renew() -> None:
    """Take a new identity. Called in a child after a fork, by the hook below or by who finds out that no hook ran."""
    global current
    current = Identity()


def random_id() -> str:
    """10 characters out of ``A-Z2-7``: 50 random bits, legal in channel names."""
    # 10 bytes are 16 base32 characters without padding; 10 of them are kept to leave room in a name of 99 characters.
    return base64.b32encode(os.urandom(10)).decode("ascii")[:10]


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=renew)
