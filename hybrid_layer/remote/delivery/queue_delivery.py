"""Delivery by queues: each message waits in an inbox on a server until the process reads it."""

from __future__ import annotations

import asyncio

from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.groups import Groups
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.inbox_reader import InboxReader
from hybrid_layer.remote.delivery.queues import send_to_queue
from hybrid_layer.remote.delivery.store import Store


class QueueDelivery:
    """Implements `hybrid_layer.remote.delivery.delivery.Delivery`."""

    def __init__(
        self, context: Context, store: Store, heartbeat: Heartbeat, groups: Groups, reader: InboxReader
    ) -> None:
        self._context = context
        self._store = store
        self._heartbeat = heartbeat
        self._groups = groups
        self._reader = reader
        self.is_open = False

    async def open(self) -> None:
        await self._heartbeat.open()
        self.is_open = True

    def inbox_added(self) -> None:
        self._reader.inboxes_changed()

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reader.poll(loop)

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reader.on_cancel(loop)

    async def send(self, channel: str, payload: bytes) -> None:
        await send_to_queue(self._context, self._store, channel, payload)

    async def group_add(self, group: str, channel: str) -> None:
        await self._groups.add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._groups.discard(group, channel)

    async def close(self) -> None:
        await self._reader.close()

    def abort(self) -> None:
        """Do nothing: the reading belongs to loops, which end it."""
