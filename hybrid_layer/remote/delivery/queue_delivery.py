"""Mail by queues: each message waits in a list on a server, the inbox, until the process pops it."""

from __future__ import annotations

import asyncio

from hybrid_layer.names import non_local, process_of
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.groups import Members
from hybrid_layer.remote.delivery.heartbeat import Keeper
from hybrid_layer.remote.delivery.inbox_reader import InboxReader
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.queues import store


class QueuedMail:
    """Implements `hybrid_layer.remote.delivery.delivery.Mail`."""

    def __init__(
        self, context: Context, connections: Connections, keeper: Keeper, members: Members, reader: InboxReader
    ) -> None:
        self._context = context
        self._connections = connections
        self._keeper = keeper
        self._members = members
        self._reader = reader
        self.is_open = False

    async def open(self) -> None:
        await self._keeper.open()
        self.is_open = True

    def part_added(self) -> None:
        self._reader.parts_changed()

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reader.ensure(loop)

    def relax(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reader.relax(loop)

    async def send(self, channel: str, payload: bytes) -> None:
        shard = self._context.shard_of(channel)
        keys = shard.keys
        await store(
            self._context,
            self._connections,
            shard,
            channel,
            payload,
            [keys.inbox(non_local(channel)), keys.epoch, keys.alive(process_of(channel))],
        )

    async def group_add(self, group: str, channel: str) -> None:
        await self._members.add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._members.discard(group, channel)

    async def stop(self) -> None:
        await self._reader.stop()

    def dispose(self) -> None:
        """Nothing: the reading belongs to loops, and ends with what they have open."""
