# SPDX-License-Identifier: BSD-3-Clause
"""Several messages in one call: how many go in one step, and what an error says of those that are stored."""

from __future__ import annotations

from collections.abc import Sequence

_MOST = 100
_MOST_BYTES = 256 * 1024
"""What others wait for while one step is done: the segment's lock, or a server."""


def next_step(payloads: Sequence[bytes], begin: int) -> tuple[bytes, ...]:
    """The payloads from `begin` on that go in one step: at least one."""
    size, end = len(payloads[begin]), begin + 1
    while end < min(len(payloads), begin + _MOST) and size + len(payloads[end]) <= _MOST_BYTES:
        size += len(payloads[end])
        end += 1
    return tuple(payloads[begin:end])


def note_stored(error: BaseException, stored: int) -> None:
    """Let ``error.stored`` say how many messages are stored."""
    error.stored = stored  # type: ignore[attr-defined]
