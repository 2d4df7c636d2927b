# SPDX-License-Identifier: BSD-3-Clause
"""How messages reach process-specific channels and groups: the interface of the two modes, queues and pub/sub.

In both, normal channels are queues, and a message to a group is one call to every shard (`groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hybrid_layer.source import Source


class Delivery(Source, Protocol):
    """One mode, for one layer in one process. The caller has checked names and encoded messages."""

    is_open: bool
    """Whether this process has been made known to the servers."""

    async def open(self) -> None:
        """Make the process known to the server of its inboxes, and keep it known."""

    def inbox_added(self) -> None:
        """Note that the process has another inbox, ``Context.inboxes[-1]``."""

    async def send(self, channel: str, payload: bytes, expiry: float | None = None) -> None:
        """Send to a process-specific channel, for `expiry` seconds. A message to a dead process is counted."""

    async def send_multiple(self, channel: str, payloads: Sequence[bytes]) -> None:
        """As `send`, for several: in order, the first ones that there is room for. Errors have ``stored``."""

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member, or restart its `group_expiry`."""

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""

    async def close(self) -> None:
        """End what belongs to the running loop, without losing messages."""

    def abort(self) -> None:
        """End everything, from any thread, for a layer that is garbage."""
