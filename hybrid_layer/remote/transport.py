# SPDX-License-Identifier: BSD-3-Clause
"""The remote half of the layer. Normal channels are queues on the servers. All other messages use one of two modes.

This module knows no kind of servers: `delivery.store` defines what a server can do.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hybrid_layer.identity import PerProcess
from hybrid_layer.names import machine_of, non_local
from hybrid_layer.remote.delivery.counting import MachineStatistics
from hybrid_layer.remote.delivery.queue_reader import QueueReader
from hybrid_layer.remote.delivery.queues import send_several_to_queue, send_to_queue
from hybrid_layer.remote.delivery.reporting import counters_of_all, statistics_of
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.process import Process
from hybrid_layer.remote.runtime.calls import LoopState
from hybrid_layer.statistics import KEYS, ChannelStatistics
from hybrid_layer.transport import Excluded


class RemoteTransport:
    """Implements `hybrid_layer.transport.RemoteHalf`. `build` makes what serves the layer in the calling process."""

    def __init__(self, build: Callable[[], Process]) -> None:
        self._build = build
        self._state: PerProcess[Process] = PerProcess()

    # Channels

    async def open_inbox(self, inbox: str) -> None:
        process = self._process()
        if process.context.adopt(inbox):
            process.delivery.inbox_added()
        if not process.delivery.is_open:
            await process.delivery.open()

    async def send(self, channel: str, payload: bytes, expiry: float | None = None) -> None:
        process = self._sender()
        if "!" in channel and not machine_of(channel):
            await process.delivery.send(channel, payload, expiry)
        else:
            await send_to_queue(process.context, process.store, channel, payload, expiry)

    async def send_multiple(self, channel: str, payloads: Sequence[bytes]) -> None:
        process = self._sender()
        if "!" in channel and not machine_of(channel):
            await process.delivery.send_multiple(channel, payloads)
        else:
            await send_several_to_queue(process.context, process.store, channel, payloads)

    def receive(self, channel: str) -> Coroutine[Any, Any, bytes]:
        """Wait for the next payload. A cancellation at any point loses nothing."""
        process = self._process()
        here = process.context.loops.get()
        here.lasts = True
        if "!" not in channel:
            return self._receive_normal(process, here, channel)
        if non_local(channel) not in process.context.inboxes:
            return self._receive_first(channel)
        process.outages.seen(channel)
        # Not a coroutine function, which would add a coroutine for each message.
        return process.context.inbox.receive(channel, process.delivery, here.loop)

    async def _receive_first(self, channel: str) -> bytes:
        await self.open_inbox(non_local(channel))
        return await self.receive(channel)

    async def _receive_normal(self, process: Process, here: LoopState, channel: str) -> bytes:
        shard = process.context.shard_of(channel)
        reader = here.readers.get(shard.number)
        if reader is None:
            reader = here.readers[shard.number] = QueueReader(process.context, process.store, shard)
        payload = await reader.receive(channel)
        process.context.statistics.count("received")
        return payload

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        await self._process().delivery.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._process().delivery.group_discard(group, channel)

    async def group_send(self, group: str, payload: bytes) -> None:
        await self._sender().groups.send(group, payload)

    async def group_send_multiple(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> None:
        await self._sender().groups.send_multiple(group, payloads, excluded)

    async def group_channels(self, group: str, ends: bool) -> list[str]:
        return await self._process().roll_calls.channels(group, ends)

    # The machine

    async def open_machine(self) -> None:
        machine = self._process().machine
        if machine is not None:
            await machine.open()

    def serve_machine(self) -> None:
        machine = self._process().machine
        if machine is not None and machine.leases.thread is None:
            machine.serve()

    def waits(self, channel: str) -> None:
        machine = self._process().machine
        if machine is not None:
            machine.outages.seen(channel)

    # The rest

    async def flush(self) -> None:
        process = self._process()
        results = await asyncio.gather(
            *(self._flush(process, shard) for shard in process.context.shards), return_exceptions=True
        )
        process.context.inbox.clear()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    @staticmethod
    async def _flush(process: Process, shard: Shard) -> None:
        process.heartbeat.forget_all(shard.number)  # first, so that the heartbeat restores nothing meanwhile
        await process.store.flush(shard)

    async def close(self) -> None:
        process = self._state.peek()
        if process is None:
            return
        loop = asyncio.get_running_loop()
        if not process.context.inbox.is_awaited(loop):
            await process.delivery.close()
        here = process.context.loops.peek(loop)
        if here is not None:
            await asyncio.gather(*(reader.close() for reader in here.readers.values() if not reader.is_awaited()))
            await process.store.close()
            # A coroutine that waits here, perhaps only since this call began, is still served.
            if not process.context.inbox.is_awaited(loop) and not any(
                reader.is_awaited() for reader in here.readers.values()
            ):
                process.context.loops.drop(loop)

    async def statistics(self) -> dict[str, int]:
        process = self._process()
        context, store = process.context, process.store
        if isinstance(context.statistics, MachineStatistics):
            return await context.statistics.of_machine()
        found = await asyncio.gather(*(counters_of_all(context, store, shard) for shard in context.shards))
        return {key: sum(counts.get(key, 0) for counts in found) for key in KEYS}

    async def channel_statistics(self, channel: str) -> ChannelStatistics:
        process = self._process()
        return await statistics_of(process.context, process.store, channel)

    def count(self, key: str) -> None:
        self._process().context.statistics.count(key)

    def _process(self) -> Process:
        process = self._state.last if self._state.page[0] else None
        return process or self._state.get(self._begin)

    def _sender(self) -> Process:
        """As `_process`. Its heartbeat reports what it counts, even if it only sends."""
        process = self._process()
        process.heartbeat.settle()
        return process

    def _begin(self) -> Process:
        process = self._build()
        weakref.finalize(self, process.abort).atexit = False
        return process
