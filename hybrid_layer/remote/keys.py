"""Names of the keys on the servers: ``<prefix>|<version>|<kind>|<name>``.

Neither prefixes nor channel names contain a ``|``, so a scan for ``<prefix>|*`` meets no other prefix.
"""

from __future__ import annotations

VERSION = "1"
"""Of the keys and of what they hold. Two versions that cannot read each other share nothing but the prefix."""

DATA_KINDS = frozenset({"queue", "inbox", "group"})
"""What a flush removes. The rest tells which processes live, and that there was a flush."""


class Keys:
    """The keys of one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.base = f"{prefix}|{VERSION}|"
        self.epoch = f"{self.base}epoch|"
        """String: the flush epoch. Also a pub/sub channel: each new one."""

    def queue(self, channel: str) -> str:
        """List: the messages of a normal channel."""
        return f"{self.base}queue|{channel}"

    def inbox(self, part: str) -> str:
        """List: the messages for all channels of one non-local part."""
        return f"{self.base}inbox|{part}"

    def group(self, group: str) -> str:
        """Sorted set: members by the time at which their membership ends. Also a pub/sub channel: messages to it."""
        return f"{self.base}group|{group}"

    def alive(self, process: str) -> str:
        """Exists while the process lives."""
        return f"{self.base}alive|{process}"

    def process(self, process: str) -> str:
        """Pub/sub channel: what is for this process."""
        return f"{self.base}process|{process}"

    def notes(self, process: str) -> str:
        """List: what others did to the memberships of the process."""
        return f"{self.base}notes|{process}"

    def wake(self, reader: str) -> str:
        """List: a push here ends the reader's blocking pop."""
        return f"{self.base}wake|{reader}"

    def scan_pattern(self) -> str:
        """A pattern for SCAN that matches every key of the prefix, and no other."""
        escaped = "".join(f"\\{char}" if char in "*?[]^\\-" else char for char in self.prefix)
        return f"{escaped}|*"

    def is_data(self, key: str) -> bool:
        """Whether a flush removes `key`."""
        fields = key.split("|", 3)
        return len(fields) == 4 and fields[2] in DATA_KINDS

    def process_of_alive(self, key: str) -> str | None:
        """The process that an alive key of this version stands for; None for other keys."""
        start = f"{self.base}alive|"
        return key[len(start) :] if key.startswith(start) else None
