"""How messages reach process-specific channels and groups: what the two modes, queues and pub/sub, have in common.

Normal channels are queues in both, and a message to a group is one call to every shard (`groups`).
"""

from __future__ import annotations

from typing import Protocol

from hybrid_layer.source import Source


class Delivery(Source, Protocol):
    """One mode, for one layer in one process. Names are checked, messages encoded before."""

    is_open: bool
    """Whether the servers have heard of this process."""

    async def open(self) -> None:
        """Make the process known to the server of its inboxes, and keep it so."""

    def inbox_added(self) -> None:
        """The process has another inbox, ``Context.inboxes[-1]``."""

    async def send(self, channel: str, payload: bytes) -> None:
        """Send to a process-specific channel. A process that is gone is counted."""

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member, or start its `group_expiry` anew."""

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""

    async def close(self) -> None:
        """End what belongs to the running loop, losing nothing."""

    def abort(self) -> None:
        """End everything, from any thread. For a layer that is garbage."""
