"""Reads the machine's inbox: what groups send to the normal channels of this machine, which live in its shared memory.

Lives in the I/O thread. Every process of the machine that uses its remote half has one, and they share the inbox.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hybrid_layer import identity
from hybrid_layer.exceptions import HybridLayerError, InvalidName
from hybrid_layer.names import check_channel, local
from hybrid_layer.remote import io_thread, scripts
from hybrid_layer.remote.backoff import ReadingLost
from hybrid_layer.remote.entries import Entry
from hybrid_layer.remote.inbox_reader import WAKE_LIFE_MS
from hybrid_layer.remote.pops import Pops
from hybrid_layer.statistics import warn
from hybrid_layer.supervision import Guard, keep_going, start_task
from hybrid_layer.timers import time_limit

if TYPE_CHECKING:
    from hybrid_layer.remote.process import Process, Shard
    from hybrid_layer.transport import Machine

_LOOK_INTERVAL = 1.0
"""Seconds between two looks whether the machine has members."""
_BATCH = 16
_WHAT = "the reader of the machine's inbox"


class MachineReader:
    """One per process and layer."""

    def __init__(self, process: Process, machine: Machine) -> None:
        self._process = process
        self._machine = machine
        self._guard = Guard(_WHAT, process.statistics.count)
        self._wake_name = identity.random_id()
        self._shard: Shard | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.settled = False

    def settle(self) -> None:
        """Start reading, from any thread."""
        if not self.settled:
            self.settled = True
            io_thread.current().settle(self)

    def look_now(self) -> None:
        """The machine has a member now."""
        self.settle()
        io_thread.current().call_soon(self._news.set)

    def stop(self) -> None:
        """Read no more, from any thread."""
        thread = io_thread.current()
        thread.leave(self)
        thread.call_soon(self._cancel)  # not at once: the thread may only just be about to start it

    def start(self) -> None:
        """Begin in the I/O thread's loop. See `io_thread.Resident`."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._loop is not loop:
            self._loop = loop
            self._news = asyncio.Event()
            self._task = start_task(loop, keep_going(_WHAT, self._run, self._process.statistics.count))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while not await self._read(await self._name()):
            pass

    async def _read(self, name: str) -> bool:
        """Read the inbox `name`. False: the process has another user now (setuid), and so another machine's inbox."""
        process = self._process
        shard = self._shard = process.shard_of(name)
        keys = [shard.keys.wake(self._wake_name), shard.keys.inbox(name)]
        pops = Pops(shard.host, shard.clock, process.options.block_time, process.options.timeout, self._wake)
        try:
            while not pops.cancelled and await self._name() == name:
                if not self._has_members():
                    await pops.close()
                    await self._wait()
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
                await self._wait()

    def _has_members(self) -> bool:
        try:
            return self._machine.has_members()
        except (HybridLayerError, OSError) as error:
            warn("machine", f"The local half of the layer does not work: {error}")
            return False

    async def _wait(self) -> None:
        self._news.clear()
        try:
            async with time_limit(_LOOK_INTERVAL):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _deliver_all(self, pops: Pops, shard: Shard, elements: list[bytes]) -> None:
        entries = []
        for element in elements:
            with self._guard:  # this message may be lost, the rest of the batch need not be
                entry = self._process.accept(shard, element)
                if entry is None and await self._process.is_present(shard, element, pops):
                    entry = self._process.accept(shard, element)
                if entry is not None:
                    entries.append(entry)
        await pops.make_sure(entry.stamp_ms for entry in entries)
        for entry in entries:
            with self._guard:
                await self._deliver(shard, entry)

    async def _deliver(self, shard: Shard, entry: Entry) -> None:
        if shard.clock.left(entry.stamp_ms) <= 0:
            self._process.statistics.count("expired", len(entry.names))
            return
        for name in entry.names:
            try:
                channel = check_channel(local(name))
            except InvalidName:
                self._process.undecodable(shard, "an entry")
                continue
            try:
                await self._machine.deliver(channel, entry.payload)
            except HybridLayerError as error:
                self._process.statistics.count("memory")
                warn(("machine", channel), f"A message of a group could not be given to {channel}: {error}")

    def _wake(self) -> None:
        # Pops are cancelled when the thread stops; its loop still runs then, and so does its link.
        assert self._shard is not None
        assert self._loop is not None
        command = scripts.WAKE.command([self._shard.keys.wake(self._wake_name)], WAKE_LIFE_MS)
        start_task(self._loop, self._send_wake(self._shard.number, command))

    async def _send_wake(self, shard: int, command: tuple[str | bytes | int, ...]) -> None:
        try:
            await self._process.connections.run(shard, command)
        except HybridLayerError:
            pass  # the pop ends by itself after the block time
