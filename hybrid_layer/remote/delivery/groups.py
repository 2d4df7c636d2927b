"""Groups on the servers: memberships, and messages to the members.

A group is on one shard. So a message to it is one call, however many shards there are; only normal channels whose
queues are on the servers need another call each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hybrid_layer.exceptions import ChannelFull, RemoteUnavailable
from hybrid_layer.names import process_of
from hybrid_layer.remote.delivery.addressee import MachineAddressee
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.machine_reader import MachineReader
from hybrid_layer.remote.delivery.queues import send_to_queue
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.statistics import warn_of_full_members


class Groups:
    """The groups of one layer in one process."""

    def __init__(
        self,
        context: Context,
        store: Store,
        heartbeat: Heartbeat,
        machine: MachineAddressee | None,
        machine_readers: Sequence[MachineReader],
    ) -> None:
        self._context = context
        self._store = store
        self._heartbeat = heartbeat
        self._machine = machine
        self._machine_readers = machine_readers

    async def add(self, group: str, channel: str) -> None:
        """Make `channel` a member, and notify its process if that is another one."""
        context, machine = self._context, self._machine
        shard = context.shard_of(group)
        # The server must know an addressee before it has a member, or a send would treat the member as dead.
        if machine is not None and machine.keeps(channel):
            member = await machine.member(channel)
            await machine.mark_members()
            await self._heartbeat.make_known(shard, process_of(member))
            await self._add(group, member)
            for reader in self._machine_readers:
                reader.settle()
                reader.wake()
        elif self._other_process(channel):
            if not await self._store.group_add(shard, group, channel, context.policy.group_expiry, process_of(channel)):
                context.statistics.count("dead")
        else:
            if "!" in channel:
                await self._heartbeat.make_known(shard, context.name)
            await self._add(group, channel)

    async def _add(self, group: str, member: str) -> None:
        shard = self._context.shard_of(group)
        await self._store.group_add(shard, group, member, self._context.policy.group_expiry)
        self._heartbeat.remember(group, member, shard.number)

    async def discard(self, group: str, channel: str) -> None:
        """End the membership, and notify its process if that is another one."""
        machine = self._machine
        member = await machine.member(channel) if machine is not None and machine.keeps(channel) else channel
        tell = self._other_process(member)
        if not tell:
            self._heartbeat.forget(group, member)
        await self._store.group_discard(self._context.shard_of(group), group, member, tell)

    async def send(self, group: str, payload: bytes) -> None:
        """Send `payload` to the members. Raises `RemoteUnavailable`, which says who got the message nevertheless."""
        context = self._context
        sent = await self._store.group_send(context.shard_of(group), group, payload)
        full = sent.full
        for key, number in (("sent", sent.reached), ("full", full), ("dead", sent.dead), ("expired", sent.expired)):
            if number:
                context.statistics.count(key, number)
        if sent.elsewhere:
            full += await self._send_elsewhere(group, sent.elsewhere, payload)
        if full:
            warn_of_full_members(group, full)

    async def _send_elsewhere(self, group: str, channels: Sequence[str], payload: bytes) -> int:
        """Send to normal channels, whose queues may be on any shard. Returns how many were full."""
        results = await asyncio.gather(
            *(send_to_queue(self._context, self._store, channel, payload) for channel in channels),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, RemoteUnavailable)]
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, RemoteUnavailable | ChannelFull):
                raise result
        if failures:
            causes = " ".join(dict.fromkeys(map(str, failures)))  # several queues may be on one server
            raise RemoteUnavailable(f"{causes} The other members of {group} got the message.")
        return sum(isinstance(result, ChannelFull) for result in results)

    def _other_process(self, member: str) -> str:
        """The process that owns the channel `member`, if it is another one; else ""."""
        if "!" not in member or member.startswith("@") or self._context.is_own(member):
            return ""
        return process_of(member)
