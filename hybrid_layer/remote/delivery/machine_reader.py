"""Reads the machine's inbox on a shard: messages to groups for the machine's normal channels, which are in its memory.

Runs in the I/O thread. Every process of the machine that uses its remote half has one, and they share the inbox.
"""

from __future__ import annotations

from hybrid_layer.remote.delivery.addressee import MachineAddressee, Taken
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.intake import Intake
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.supervision import Guard

_CHECK_INTERVAL = 1.0
"""Seconds between two checks whether the machine has members."""
_BATCH = 16


class MachineReader(ResidentTask):
    """One per shard, process and layer."""

    _what = "the reader of the machine's inbox"

    def __init__(self, context: Context, store: Store, shard: Shard, machine: MachineAddressee) -> None:
        super().__init__(context.statistics.count)
        self._context = context
        self._store = store
        self._shard = shard
        self._machine = machine
        self._guard = Guard(self._what, context.statistics.count)

    async def _run(self) -> None:
        while not await self._read(await self._name()):
            pass

    async def _name(self) -> str:
        while True:
            found = await self._machine.inbox_id()
            if found is not None:
                return found
            await self._wait(_CHECK_INTERVAL)

    async def _read(self, name: str) -> bool:
        """Read the inbox of `name`. False if the user changed (setuid), and with it the name of the machine."""
        inbox = f"{name}!"
        shard = self._shard
        reader = self._store.reader(shard)
        intake = Intake(self._context, shard, self._what)
        try:
            while not reader.cancelled and await self._name() == name:
                if not self._machine.has_members():
                    await reader.close()
                    await self._wait(_CHECK_INTERVAL)
                    continue
                try:
                    batch = await reader.read([inbox], _BATCH)
                except ReadingLost as error:
                    await reader.pause(error)
                    continue
                if batch is not None:
                    taken: list[Taken] = []
                    await intake.take(reader, batch.entries, taken.append)
                    for each in taken:
                        with self._guard:
                            await self._machine.hand_over(shard, each)
            return reader.cancelled
        finally:
            await reader.close()
