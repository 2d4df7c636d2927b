# SPDX-License-Identifier: BSD-3-Clause
"""Delivery by queues: each message waits in an inbox on a server until the process reads it.

A process has an inbox on every shard: direct messages are on the shard of the process, a group's on that of the group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.groups import Groups
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.inbox_reader import InboxReader
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.queues import send_several_to_queue, send_to_queue
from hybrid_layer.remote.delivery.store import Store


class QueueDelivery:
    """Implements `hybrid_layer.remote.delivery.delivery.Delivery`."""

    def __init__(self, context: Context, store: Store, heartbeat: Heartbeat, groups: Groups, outages: Outages) -> None:
        self._context = context
        self._store = store
        self._heartbeat = heartbeat
        self._groups = groups
        self._readers = [InboxReader(context, store, shard, heartbeat, outages) for shard in context.shards]
        self.is_open = False

    async def open(self) -> None:
        await self._heartbeat.open()
        self.is_open = True

    def inbox_added(self) -> None:
        for reader in self._readers:
            reader.inboxes_changed()

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        for reader in self._readers:
            reader.poll(loop)

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        for reader in self._readers:
            reader.on_cancel(loop)

    async def send(self, channel: str, payload: bytes, expiry: float | None = None) -> None:
        await send_to_queue(self._context, self._store, channel, payload, expiry)

    async def send_multiple(self, channel: str, payloads: Sequence[bytes]) -> None:
        await send_several_to_queue(self._context, self._store, channel, payloads)

    async def group_add(self, group: str, channel: str) -> None:
        await self._groups.add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._groups.discard(group, channel)

    async def close(self) -> None:
        await asyncio.gather(*(reader.close() for reader in self._readers))

    def abort(self) -> None:
        """Do nothing: the reading belongs to loops, which end it."""
