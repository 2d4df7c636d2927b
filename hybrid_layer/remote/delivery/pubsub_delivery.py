# SPDX-License-Identifier: BSD-3-Clause
"""Delivery by pub/sub: each message is published, and reaches the processes that are subscribed at that moment.

A process is subscribed on every shard, since a group may be on any. Direct messages are published on the shard of the
process, a group's on the shard of the group.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.groups import Groups
from hybrid_layer.remote.delivery.heartbeat import OPENING, Heartbeat
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.pubsub_shard import PubSubShard
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.several import note_stored
from hybrid_layer.timers import time_limit


class PubSubDelivery:
    """Implements `hybrid_layer.remote.delivery.delivery.Delivery`."""

    def __init__(self, context: Context, store: Store, heartbeat: Heartbeat, groups: Groups, outages: Outages) -> None:
        self._context = context
        self._store = store
        self._heartbeat = heartbeat
        self._groups = groups
        self._shards = [PubSubShard(context, store, shard, heartbeat, outages) for shard in context.shards]
        self.is_open = False

    async def open(self) -> None:
        for shard in self._shards:
            shard.subscriber.settle()
        home = self._shards[self._context.home.number]
        await home.subscriber.confirm()
        others = [shard for shard in self._shards if shard is not home]
        if others:  # another process may add a channel to a group there as soon as it hears of the channel
            with contextlib.suppress(TimeoutError):
                async with time_limit(OPENING):
                    await asyncio.gather(*(shard.subscriber.confirm() for shard in others), return_exceptions=True)
        self._heartbeat.settle()
        self.is_open = True

    async def close(self) -> None:
        await asyncio.gather(*(shard.subscriber.close() for shard in self._shards))

    def abort(self) -> None:
        for shard in self._shards:
            shard.subscriber.abort()

    def inbox_added(self) -> None:
        """Do nothing: a subscription serves all inboxes of the process."""

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        for shard in self._shards:
            shard.subscriber.poll(loop)

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing: messages are received whether a consumer waits or not."""

    async def send(self, channel: str, payload: bytes, expiry: float | None = None) -> None:
        context = self._context
        receivers = await self._store.publish(context.shard_of(channel), channel, payload, expiry)
        context.statistics.count("sent")
        if not receivers:
            context.statistics.count("dead")

    async def send_multiple(self, channel: str, payloads: Sequence[bytes]) -> None:
        # All are written at once, in order, to one connection.
        results = await asyncio.gather(*(self.send(channel, payload) for payload in payloads), return_exceptions=True)
        for stored, error in enumerate(results):
            if error is not None:
                note_stored(error, stored)
                raise error

    async def group_add(self, group: str, channel: str) -> None:
        if self._context.is_own(channel):
            await self._shard_of(group).add(group, channel)
        else:
            await self._groups.add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        if not self._context.is_own(channel):
            await self._groups.discard(group, channel)
            return
        shard = self._shard_of(group)
        try:
            # Another process may also have added it.
            await self._groups.discard(group, channel)
            await shard.discard(group, channel)
        except BaseException:
            shard.remove(group, channel)
            raise

    def _shard_of(self, group: str) -> PubSubShard:
        return self._shards[self._context.shard_of(group).number]
