# SPDX-License-Identifier: BSD-3-Clause
"""Names of the keys on the servers: ``<prefix>|<version>|<kind>|<name>``. In a cluster, a tag precedes the kind.

Neither prefixes nor channel names contain a ``|``, so a scan for ``<prefix>|*`` finds no key of another prefix.
"""

from __future__ import annotations

VERSION = "1"
"""The version of the keys and their values. Incompatible versions share nothing but the prefix."""

DATA_KINDS = frozenset({"queue", "inbox", "group", "parts"})
"""The kinds that a flush deletes. The others say which processes live and which flush was the last."""


class Keys:
    """The keys of one prefix on one shard. In a cluster, they share a hash tag and so are on one node."""

    def __init__(self, prefix: str, tag: str = "") -> None:
        self.prefix = prefix
        self.tag = tag
        self.base = f"{prefix}|{VERSION}|{{{tag}}}|" if tag else f"{prefix}|{VERSION}|"
        self.epoch = f"{self.base}epoch|"
        """String: the flush epoch. Also a pub/sub channel: each new epoch."""
        # Each of these takes a name and returns the key.
        self.queue = f"{self.base}queue|".__add__
        """List: the messages of a normal channel."""
        self.inbox = f"{self.base}inbox|".__add__
        """List: the messages for all channels of one inbox. For a machine's a stream, which also has its notes."""
        self.group = f"{self.base}group|".__add__
        """Sorted set: members by the time at which their membership ends. Also a pub/sub channel: messages to it."""
        self.parts = f"{self.base}parts|".__add__
        """Hash: a group's members by inbox, kept for its next message. See ``scripts/include/members.lua``."""
        self.alive = f"{self.base}alive|".__add__
        """String: until when the process or machine lives; of "": knowledge of the clock. See
        ``scripts/include/alive.lua``."""
        self.process = f"{self.base}process|".__add__
        """Pub/sub channel: the messages for this process."""
        self.counts = f"{self.base}counts|".__add__
        """Hash: what processes have counted, of ""; string: the number of a process's last report. See
        ``scripts/include/counts.lua``."""
        self.notes = f"{self.base}notes|".__add__
        """List: changes by others to the memberships of the process."""
        self.wake = f"{self.base}wake|".__add__
        """List: a push here ends the reader's blocking pop."""

    def scan_pattern(self) -> str:
        """A pattern for SCAN that matches every key of the prefix on this shard, and no other."""
        escaped = "".join(f"\\{char}" if char in "*?[]^\\-" else char for char in self.prefix)
        # If a pattern covers one slot only, a server scans that slot alone.
        return f"{escaped}|{VERSION}|{{{self.tag}}}|*" if self.tag else f"{escaped}|*"

    def is_data(self, key: str) -> bool:
        """Whether a flush deletes `key`."""
        fields = key.split("|")
        return len(fields) >= 4 and fields[-2] in DATA_KINDS

    def is_stream(self, key: str) -> bool:
        """Whether `key` is a machine's inbox, which a flush empties."""
        return key.split("|")[-2:-1] == ["inbox"] and key.rpartition("|")[2].startswith("@")

    def addressee_of_alive(self, key: str) -> str | None:
        """The process, or ``@MACHINE``, of an alive key of this version; None for other keys."""
        start = f"{self.base}alive|"
        return key[len(start) :] if key.startswith(start) else None
