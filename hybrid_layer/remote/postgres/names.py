# SPDX-License-Identifier: BSD-3-Clause
"""Numbers of queues and processes, which their locks have, and the channels of LISTEN and NOTIFY.

A collision of two numbers costs contention or a spare look. Messages are found by names.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from hybrid_layer.names import addressee_of, non_local


class Names:
    """Those of one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.number = lru_cache(maxsize=8192)(self._number)
        self.epochs = f"hl1e_{_digest(f'{prefix}|epoch').hex()}"
        """The channel on which flushes are announced."""

    def _number(self, name: str) -> int:
        """The number of a normal channel, a process or ``@MACHINE``: a multiple of 4."""
        return int.from_bytes(_digest(f"{self.prefix}|{name}")[:8], "big", signed=True) & ~3

    def number_of(self, channel: str) -> int:
        """The number of the queue where messages for `channel` wait. Those of one process or machine have the same."""
        return self.number(addressee_of(channel) if "!" in channel else channel)

    def queue(self, source: str) -> str:
        """The full name of a queue: of a normal channel, or an inbox."""
        return f"{self.prefix}|{source}"

    def notes(self, process: str) -> str:
        """The full name of the queue of notes for a process."""
        return f"{self.prefix}|{process}|notes"

    def group(self, group: str) -> str:
        """The channel on which messages to a group are published."""
        return f"hl1g_{_digest(f'{self.prefix}|group {group}').hex()}"


def bell(number: int) -> str:
    """The channel on which readers of a queue are woken."""
    return f"hl1_{number & 0xFFFFFFFFFFFFFFFF:x}"


def of_process(number: int) -> str:
    """The channel on which messages to a process are published."""
    return f"hl1p_{number & 0xFFFFFFFFFFFFFFFF:x}"


def is_of_group(channel: str) -> bool:
    """Whether it is the channel of a group."""
    return channel.startswith("hl1g_")


def part_of(member: str) -> tuple[str, str]:
    """A member's part and the rest of its name."""
    part = non_local(member)
    return part, member[len(part) :]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
