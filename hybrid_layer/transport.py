"""The interface of each half of a layer, local and remote, to the layer classes.

A transport moves bytes. `base` checks names, and encodes and decodes messages.
"""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """A half of the layer. Every method may be called from any event loop and thread."""

    async def open_inbox(self, inbox: str) -> None:
        """Let this process receive on the channels of `inbox`, whose names begin with it. `new_channel` calls this."""

    async def send(self, channel: str, payload: bytes) -> None:
        """Store `payload`, or raise `ChannelFull`. Never waits for room."""

    async def receive(self, channel: str) -> bytes:
        """Wait for the next payload of `channel`. A cancellation at any point loses nothing."""

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member of `group` for `group_expiry` seconds from now."""

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""

    async def group_send(self, group: str, payload: bytes) -> None:
        """Send `payload` to every member. A member at capacity misses it, which is counted."""

    async def flush(self) -> None:
        """Delete every message and group of this prefix."""

    async def close(self) -> None:
        """Close what belongs to the running loop."""

    async def statistics(self) -> dict[str, int]:
        """The counters of this half, with the keys `hybrid_layer.statistics.KEYS`."""

    def count(self, key: str) -> None:
        """Add one to the counter `key`, for events that only the layer notices, such as an undecodable payload."""


class RemoteHalf(Transport, Protocol):
    """A transport that the hybrid layer can use as its remote half."""

    def serve_machine(self) -> None:
        """From now on, read the machine's inbox while the machine has members."""


class Machine(Protocol):
    """The machine as the remote half sees it: one inbox for all its normal channels that are members of groups.

    Normal channels are in shared memory, and groups are on the servers. So to the servers, the machine is one reader.
    Any of its processes may read the machine's inbox, and puts the messages into the local queues.
    """

    async def id(self) -> str:
        """The random id that all processes of this machine share."""

    async def deliver(self, channel: str, payload: bytes, life: float) -> None:
        """Put `payload` into the local queue of a normal channel, for `life` seconds. A full queue drops it.

        A drop is counted. Otherwise nothing is: the sender has counted the message as sent.
        """

    def has_members(self) -> bool:
        """Whether a process of this machine has added a normal channel to a group, so that the inbox must be read."""

    async def mark_members(self) -> None:
        """Make `has_members` true for all processes of the machine."""

    def meet_flush(self, shard: int, incarnation: int, flushes: int) -> None:
        """Note a flush of a server: its number, the incarnation of its data (32 bits), how many flushes it had."""

    def keeps(self, channel: str, /) -> bool:
        """Whether a normal channel's queue is on the machine. Otherwise, as a member, it has a queue on the servers."""
