"""Reads the machine's inbox: what groups send to the normal channels of this machine, which live in its shared memory.

Lives in the I/O thread. Every process of the machine that uses its remote half has one, and they share the inbox.
"""

from __future__ import annotations

from hybrid_layer import identity
from hybrid_layer.exceptions import HybridLayerError, InvalidName
from hybrid_layer.names import check_channel, local
from hybrid_layer.remote.delivery.context import Context, Shard
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.blocking_reader import WAKE_LIFE_MS, Pops
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.entries import Entry
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.statistics import warn
from hybrid_layer.supervision import Guard, start_task
from hybrid_layer.transport import Machine

_LOOK_INTERVAL = 1.0
"""Seconds between two looks whether the machine has members."""
_BATCH = 16


class MachineReader(ResidentTask):
    """One per process and layer."""

    _what = "the reader of the machine's inbox"

    def __init__(self, context: Context, connections: Connections, machine: Machine) -> None:
        super().__init__(context.statistics.count)
        self._context = context
        self._connections = connections
        self._machine = machine
        self._guard = Guard(self._what, context.statistics.count)
        self._wake_name = identity.random_id()
        self._shard: Shard | None = None

    async def _run(self) -> None:
        while not await self._read(await self._name()):
            pass

    async def _read(self, name: str) -> bool:
        """Read the inbox `name`. False: the process has another user now (setuid), and so another machine's inbox."""
        context = self._context
        shard = self._shard = context.shard_of(name)
        keys = [shard.keys.wake(self._wake_name), shard.keys.inbox(name)]
        pops = Pops(shard.host, shard.clock, context.options.block_time, context.options.timeout, self._wake)
        try:
            while not pops.cancelled and await self._name() == name:
                if not self._has_members():
                    await pops.close()
                    await self._wait(_LOOK_INTERVAL)
                    continue
                try:
                    answer = await pops.pop(keys, _BATCH)
                except ReadingLost as error:
                    await pops.pause(error)
                    continue
                if answer is not None and answer[0] != keys[0]:
                    await self._deliver_all(pops, shard, answer[1])
            return pops.cancelled
        finally:
            await pops.close()

    async def _name(self) -> str:
        while True:
            try:
                return f"@{await self._machine.id()}!"
            except (HybridLayerError, OSError) as error:
                warn("machine", f"The local half of the layer does not work: {error}")
                await self._wait(_LOOK_INTERVAL)

    def _has_members(self) -> bool:
        try:
            return self._machine.has_members()
        except (HybridLayerError, OSError) as error:
            warn("machine", f"The local half of the layer does not work: {error}")
            return False

    async def _deliver_all(self, pops: Pops, shard: Shard, elements: list[bytes]) -> None:
        entries = []
        for element in elements:
            with self._guard:  # this message may be lost, the rest of the batch need not be
                entry = self._context.accept(shard, element)
                if entry is None and await self._context.is_present(shard, element, pops):
                    entry = self._context.accept(shard, element)
                if entry is not None:
                    entries.append(entry)
        await pops.make_sure(entry.stamp_ms for entry in entries)
        for entry in entries:
            with self._guard:
                await self._deliver(shard, entry)

    async def _deliver(self, shard: Shard, entry: Entry) -> None:
        if shard.clock.left(entry.stamp_ms) <= 0:
            self._context.statistics.count("expired", len(entry.names))
            return
        for name in entry.names:
            try:
                channel = check_channel(local(name))
            except InvalidName:
                self._context.undecodable(shard, "an entry")
                continue
            try:
                await self._machine.deliver(channel, entry.payload)
            except HybridLayerError as error:
                self._context.statistics.count("memory")
                warn(("machine", channel), f"A message of a group could not be given to {channel}: {error}")

    def _wake(self) -> None:
        # Pops are cancelled when the thread stops; its loop still runs then, and so does its link.
        assert self._shard is not None
        assert self._loop is not None
        command = scripts.WAKE.command([self._shard.keys.wake(self._wake_name)], WAKE_LIFE_MS)
        start_task(self._loop, self._send_wake(self._shard.number, command))

    async def _send_wake(self, shard: int, command: tuple[str | bytes | int, ...]) -> None:
        try:
            await self._connections.run(shard, command)
        except HybridLayerError:
            pass  # the pop ends by itself after the block time
