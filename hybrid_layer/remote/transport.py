"""The remote half of the layer, queued: every message waits in a list on a server until its reader pops it.

What a call does is here, in one screen each; how it travels is in `connections`, how it is read in the readers.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref

from hybrid_layer import identity
from hybrid_layer.exceptions import ChannelFull, RemoteUnavailable
from hybrid_layer.names import non_local, process_of
from hybrid_layer.policy import Policy
from hybrid_layer.remote import scripts
from hybrid_layer.remote.flush import flush_shard
from hybrid_layer.remote.options import RemoteOptions
from hybrid_layer.remote.process import Process, inherited
from hybrid_layer.remote.queue_reader import QueueReader
from hybrid_layer.statistics import warn_of_full_members
from hybrid_layer.transport import Machine, Settings

_STORED, _FULL, _DEAD = 0, 1, 2
_GROUPS_REMEMBERED = 1000

_lock = threading.Lock()


class QueueTransport:
    """Implements `hybrid_layer.transport.Transport`."""

    def __init__(self, settings: Settings, options: RemoteOptions, machine: Machine | None = None) -> None:
        self._settings = settings
        self._options = options
        self._machine = machine
        self._expiry_ms = max(1, int(settings.policy.expiry * 1000))
        self._group_expiry_ms = max(1, int(settings.policy.group_expiry * 1000))
        self._part_capacities: dict[str, dict[str, int]] = {}
        """By group: the capacity of each part that was met in it. Used only when capacities differ by channel."""
        self._state: Process | None = None

    # Channels

    async def open_inbox(self, part: str) -> None:
        process = self._process()
        if process.adopt(part):
            process.inbox_reader.parts_changed()
        if not process.keeper.is_open:
            await process.keeper.open()
            if process.machine_reader is not None:
                process.machine_reader.settle()

    async def send(self, channel: str, payload: bytes) -> None:
        process = self._process()
        if "!" in channel:
            part = non_local(channel)
            keys = [process.keys.inbox(part), process.keys.epoch, process.keys.alive(process_of(channel))]
        else:
            keys = [process.keys.queue(channel), process.keys.epoch]
        capacity = process.policy.capacity_for(channel)
        command = scripts.SEND.command(keys, payload, channel, capacity, self._expiry_ms)
        shard = process.shard_of(channel)
        outcome, expired, epoch = await process.connections.run(shard, command)
        process.shards[shard].epoch.meet(epoch)
        if expired:
            process.statistics.count("expired", expired)
        if outcome == _FULL:
            process.statistics.count("full")
            raise ChannelFull(_full_text(process.policy, channel, capacity))
        process.statistics.count("sent")
        if outcome == _DEAD:
            process.statistics.count("dead")

    async def receive(self, channel: str) -> bytes:
        process = self._process()
        here = process.connections.loops.get()
        here.will_stay()
        if "!" in channel:
            if non_local(channel) not in process.parts:
                await self.open_inbox(non_local(channel))
            try:
                payload = await process.inbox.receive(channel, process.inbox_reader.ensure)
            except asyncio.CancelledError:
                process.inbox_reader.relax()
                raise
        else:
            shard = process.shard_of(channel)
            reader = here.readers.get(shard)
            if reader is None:
                reader = here.readers[shard] = QueueReader(process, process.shards[shard])
            payload = await reader.receive(channel)
        process.statistics.count("received")
        return payload

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        process = self._process()
        member = await self._member(channel)
        if member.startswith("@"):
            assert self._machine is not None
            await self._machine.mark_members()
        shard = process.shard_of(member)
        keys = [process.keys.group(group), process.keys.epoch]
        is_foreign = "!" in channel and not process.is_own(channel)
        if is_foreign:
            keys.append(process.keys.notes(process_of(channel)))
        command = scripts.GROUP_ADD.command(keys, member, self._group_expiry_ms, "add", group)
        if member.startswith("@"):
            # The machine must be known before it has a member, or a send would take the member for dead.
            await process.keeper.open_machine(member)
        process.shards[shard].epoch.meet(await process.connections.run(shard, command))
        if not is_foreign:
            process.keeper.remember(group, member, shard)
        if member.startswith("@") and process.machine_reader is not None:
            process.machine_reader.look_now()

    async def group_discard(self, group: str, channel: str) -> None:
        process = self._process()
        member = await self._member(channel)
        keys = [process.keys.group(group)]
        if "!" in channel and not process.is_own(channel):
            keys.append(process.keys.notes(process_of(channel)))
        else:
            process.keeper.forget(group, member)
        await process.connections.run(process.shard_of(member), scripts.GROUP_DISCARD.command(keys, member, group))

    async def group_send(self, group: str, payload: bytes) -> None:
        process = self._process()
        if len(process.shards) == 1:
            await self._group_send(process, 0, group, payload)
            return
        results = await asyncio.gather(
            *(self._group_send(process, shard.number, group, payload) for shard in process.shards),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, RemoteUnavailable):
                raise failure
        if failures:
            reached = len(results) - len(failures)
            raise RemoteUnavailable(
                f"{' '.join(map(str, failures))} Members of {group} on {reached} other server(s) got the message."
            )

    async def _group_send(self, process: Process, shard: int, group: str, payload: bytes) -> None:
        policy, keys = process.policy, [process.keys.group(group), process.keys.epoch]
        known = self._part_capacities.get(group, {})
        while True:
            capacities = [text for part, capacity in list(known.items()) for text in (part, capacity)]
            command = scripts.GROUP_SEND.command(
                keys, payload, self._expiry_ms, policy.capacity if policy.uniform else 0, process.keys.base, *capacities
            )
            reply = await process.connections.run(shard, command)
            if reply[0] != -1:
                break
            parts = [part.decode() for part in reply[1:]]
            if len(self._part_capacities) >= _GROUPS_REMEMBERED:
                self._part_capacities.clear()
            # Only what was asked for just now, and what else is known on this shard: parts of dead processes go.
            known = {**known, **{part: policy.capacity_for(part) for part in parts}}
            self._part_capacities[group] = known
        process.shards[shard].epoch.meet(reply[4])
        for key, number in zip(("sent", "full", "dead", "expired"), reply, strict=False):
            if number:
                process.statistics.count(key, number)
        if reply[1]:
            warn_of_full_members(group, reply[1])

    async def _member(self, channel: str) -> str:
        """How the servers know a member: a normal channel of a machine by the machine's inbox."""
        if "!" in channel or self._machine is None or not self._machine.keeps(channel):
            return channel
        return f"@{await self._machine.id()}!{channel}"

    def serve_machine(self) -> None:
        """Read the machine's inbox from now on, whenever the machine has members."""
        process = self._process()
        if process.machine_reader is not None and not process.machine_reader.settled:
            process.machine_reader.settle()
            process.keeper.settle()

    # The rest

    async def flush(self) -> None:
        process = self._process()
        results = await asyncio.gather(
            *(flush_shard(process, shard) for shard in process.shards), return_exceptions=True
        )
        process.inbox.clear()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def close(self) -> None:
        process = self._state
        if process is None or process.identity is not identity.current():
            return
        loop = asyncio.get_running_loop()
        if not process.inbox.is_awaited(loop):
            await process.inbox_reader.stop()
        here = process.connections.loops.peek(loop)
        if here is not None:
            await asyncio.gather(*(reader.stop() for reader in here.readers.values() if not reader.is_awaited()))
            await process.connections.close_links()
            # Who waits here, perhaps only since we began, goes on being served.
            if not process.inbox.is_awaited(loop) and not any(reader.is_awaited() for reader in here.readers.values()):
                process.connections.loops.drop(loop)

    async def statistics(self) -> dict[str, int]:
        return self._process().statistics.as_dict()

    def count(self, key: str) -> None:
        self._process().statistics.count(key)

    def _process(self) -> Process:
        process = self._state
        if process is None or process.identity is not identity.current():
            with _lock:
                return self._entered()
        return process

    def _entered(self) -> Process:
        """This process's state, made anew after a fork."""
        process = self._state
        if process is None or process.identity is not identity.current():
            if process is not None:
                inherited.append(process)
            process = self._state = Process(self._settings, self._options, self._machine)
            weakref.finalize(self, process.dispose).atexit = False
        return process


def _full_text(policy: Policy, channel: str, capacity: int) -> str:
    if "!" not in channel:
        return f"{channel} is full: it holds {capacity} unread messages, its capacity."
    return (
        f"{channel} is full: the inbox {non_local(channel)}, which all its channels share, holds {capacity} unread "
        f"messages, its capacity."
    )


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
