"""What each half of the layer, the local one and the remote one, offers to the layer classes.

A transport moves bytes. Names are checked, messages encoded and decoded before and after it, once, in `base`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hybrid_layer.options import check_prefix
from hybrid_layer.policy import Policy


class Settings:
    """What both halves of one layer share."""

    __slots__ = ("_prefix", "policy")

    def __init__(self, prefix: str | Callable[[], str], policy: Policy) -> None:
        self._prefix = prefix
        self.policy = policy

    @property
    def prefix(self) -> str:
        """That of the calling process: a function may have another answer in a forked child."""
        return self._prefix if isinstance(self._prefix, str) else check_prefix(self._prefix())


class Transport(Protocol):
    """A half of the layer. Every method may be called from any event loop and thread."""

    async def open_inbox(self, part: str) -> None:
        """Make `part`, this process's name up to and including ``!``, receivable. Called by `new_channel`."""

    async def send(self, channel: str, payload: bytes) -> None:
        """Store `payload` or raise `ChannelFull`; never wait for room."""

    async def receive(self, channel: str) -> bytes:
        """Wait for the next payload. A cancellation at any point loses nothing."""

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member of `group`, or start its `group_expiry` anew."""

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""

    async def group_send(self, group: str, payload: bytes) -> None:
        """Give `payload` to every member. Members at capacity miss it, which is counted."""

    async def flush(self) -> None:
        """Forget every message and every group of this prefix."""

    async def close(self) -> None:
        """Give back what belongs to the running loop."""

    async def statistics(self) -> dict[str, int]:
        """The counters of this half, by the keys of `hybrid_layer.statistics.KEYS`."""

    def count(self, key: str) -> None:
        """Add one to a counter. For what only the caller can see, such as a payload that does not decode."""


class RemoteHalf(Transport, Protocol):
    """What the hybrid needs of its remote half, too."""

    def serve_machine(self) -> None:
        """Read the machine's inbox from now on, whenever the machine has members."""


class Machine(Protocol):
    """The machine as the remote half sees it: one inbox for the normal channels that are members of groups.

    Normal channels live in the machine's shared memory, groups on the servers. So the servers know the machine as one
    reader; whichever of its processes reads the machine's inbox puts the message into the local queue.
    """

    async def id(self) -> str:
        """The random id that all processes of this machine share."""

    async def deliver(self, channel: str, payload: bytes) -> None:
        """Put a payload into the local queue of a normal channel; a full one drops and counts."""

    def has_members(self) -> bool:
        """Whether a process of this machine has added a normal channel to a group, so that the inbox must be read."""

    async def mark_members(self) -> None:
        """Make `has_members` true for all processes of the machine."""

    def meet_flush(self, incarnation: int, flushes: int) -> None:
        """Take note of a flush of the servers: the incarnation of their data (32 bits), and how many it has seen."""

    def keeps(self, channel: str, /) -> bool:
        """Whether the queue of a normal channel is on the machine. If not, it is on the servers, and a member there."""
