"""The remote half of the layer. Normal channels are queues on the servers; the rest travels as `Mail`, one of two ways.

How a command travels is in `connections`, how a queue is read in the readers.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from typing import Any

from hybrid_layer.identity import PerProcess
from hybrid_layer.names import non_local
from hybrid_layer.remote.connections import LoopConnections
from hybrid_layer.remote.discovery import DiscoveredTransport
from hybrid_layer.remote.flush import flush_shard
from hybrid_layer.remote.options import RemoteOptions
from hybrid_layer.remote.process import Process
from hybrid_layer.remote.queue_reader import QueueReader
from hybrid_layer.remote.queues import store
from hybrid_layer.transport import Machine, RemoteHalf, Settings


def remote_transport(settings: Settings, options: RemoteOptions, machine: Machine | None = None) -> RemoteHalf:
    """The transport for `options`."""

    def build(options: RemoteOptions) -> RemoteTransport:
        return RemoteTransport(settings, options, machine)

    return build(options) if options.all_services is None else DiscoveredTransport(options, build)


class RemoteTransport:
    """Implements `hybrid_layer.transport.RemoteHalf`."""

    def __init__(self, settings: Settings, options: RemoteOptions, machine: Machine | None = None) -> None:
        self._settings = settings
        self._options = options
        self._machine = machine
        self._state: PerProcess[Process] = PerProcess()

    # Channels

    async def open_inbox(self, part: str) -> None:
        process = self._process()
        if process.context.adopt(part):
            process.mail.part_added()
        if not process.mail.is_open:
            await process.mail.open()
            if process.machine_reader is not None:
                process.machine_reader.settle()

    async def send(self, channel: str, payload: bytes) -> None:
        process = self._process()
        if "!" in channel:
            await process.mail.send(channel, payload)
        else:
            shard = process.context.shard_of(channel)
            await store(
                process.context,
                process.connections,
                shard,
                channel,
                payload,
                [shard.keys.queue(channel), shard.keys.epoch],
            )

    def receive(self, channel: str) -> Coroutine[Any, Any, bytes]:
        """Wait for the next payload. A cancellation at any point loses nothing."""
        process = self._process()
        here = process.connections.loops.get()
        here.will_stay()
        if "!" not in channel:
            return self._receive_normal(process, here, channel)
        if non_local(channel) not in process.context.parts:
            return self._receive_first(channel)
        process.outages.seen(channel)
        # No coroutine of its own, which would be one more for each message.
        return process.context.inbox.receive(channel, process.mail, here.loop)

    async def _receive_first(self, channel: str) -> bytes:
        await self.open_inbox(non_local(channel))
        return await self.receive(channel)

    async def _receive_normal(self, process: Process, here: LoopConnections, channel: str) -> bytes:
        shard = process.context.shard_of(channel)
        reader = here.readers.get(shard.number)
        if reader is None:
            reader = here.readers[shard.number] = QueueReader(process.context, process.connections, shard)
        payload = await reader.receive(channel)
        process.context.statistics.count("received")
        return payload

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        await self._process().mail.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._process().mail.group_discard(group, channel)

    async def group_send(self, group: str, payload: bytes) -> None:
        await self._process().members.send(group, payload)

    def serve_machine(self) -> None:
        """Read the machine's inbox from now on, whenever the machine has members."""
        process = self._process()
        if process.machine_reader is not None and process.machine_reader.thread is None:
            process.machine_reader.settle()
            process.keeper.settle()

    # The rest

    async def flush(self) -> None:
        process = self._process()
        results = await asyncio.gather(
            *(
                flush_shard(process.context, process.connections, process.keeper, shard)
                for shard in process.context.shards
            ),
            return_exceptions=True,
        )
        process.context.inbox.clear()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def close(self) -> None:
        process = self._state.peek()
        if process is None:
            return
        loop = asyncio.get_running_loop()
        if not process.context.inbox.is_awaited(loop):
            await process.mail.stop()
        here = process.connections.loops.peek(loop)
        if here is not None:
            await asyncio.gather(*(reader.stop() for reader in here.readers.values() if not reader.is_awaited()))
            await process.connections.close_links()
            # Who waits here, perhaps only since we began, goes on being served.
            if not process.context.inbox.is_awaited(loop) and not any(
                reader.is_awaited() for reader in here.readers.values()
            ):
                process.connections.loops.drop(loop)

    async def statistics(self) -> dict[str, int]:
        return self._process().context.statistics.as_dict()

    def count(self, key: str) -> None:
        self._process().context.statistics.count(key)

    def _process(self) -> Process:
        process = self._state.last if self._state.page[0] else None
        return process or self._state.get(self._begin)

    def _begin(self) -> Process:
        process = Process(self._settings, self._options, self._machine)
        weakref.finalize(self, process.dispose).atexit = False
        return process
