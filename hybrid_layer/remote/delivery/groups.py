"""Groups on the servers: memberships, and messages to the members.

A membership is stored on the shard of the member's inbox, so a message to a group is one call to every shard.
"""

from __future__ import annotations

import asyncio

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.names import process_of
from hybrid_layer.remote.delivery.addressee import MachineAddressee
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.machine_reader import MachineReader
from hybrid_layer.remote.delivery.shards import Shard
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
        machine_reader: MachineReader | None,
    ) -> None:
        self._context = context
        self._store = store
        self._heartbeat = heartbeat
        self._machine = machine
        self._machine_reader = machine_reader

    async def add(self, group: str, channel: str) -> None:
        """Make `channel` a member, and notify its process if that is another one."""
        machine = self._machine
        if machine is not None and machine.keeps(channel):
            member = await machine.member(channel)
            await machine.mark_members()
            # The server must know the machine before it has a member, or a send would treat the member as dead.
            await self._heartbeat.make_known(self._context.shard_of(member), process_of(member))
            await self._add(group, member, "")
            if self._machine_reader is not None:
                self._machine_reader.settle()
                self._machine_reader.wake()
        else:
            await self._add(group, channel, self._other_process(channel))

    async def _add(self, group: str, member: str, tell: str) -> None:
        shard = self._context.shard_of(member)
        await self._store.group_add(shard, group, member, self._context.policy.group_expiry, tell)
        if not tell:
            self._heartbeat.remember(group, member, shard.number)

    async def discard(self, group: str, channel: str) -> None:
        """End the membership, and notify its process if that is another one."""
        machine = self._machine
        member = await machine.member(channel) if machine is not None and machine.keeps(channel) else channel
        tell = self._other_process(member)
        if not tell:
            self._heartbeat.forget(group, member)
        await self._store.group_discard(self._context.shard_of(member), group, member, tell)

    async def send(self, group: str, payload: bytes) -> None:
        """Send `payload` to the members on every shard. If some fail, raises `RemoteUnavailable` after the others."""
        context = self._context
        if len(context.shards) == 1:
            await self._send(context.shards[0], group, payload)
            return
        results = await asyncio.gather(
            *(self._send(shard, group, payload) for shard in context.shards), return_exceptions=True
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, RemoteUnavailable):
                raise failure
        if failures:
            reached = len(results) - len(failures)
            causes = " ".join(dict.fromkeys(map(str, failures)))  # several shards may be at one node
            raise RemoteUnavailable(f"{causes} Members of {group} on {reached} other shard(s) got the message.")

    async def _send(self, shard: Shard, group: str, payload: bytes) -> None:
        sent = await self._store.group_send(shard, group, payload)
        for key, number in zip(("sent", "full", "dead", "expired"), sent, strict=True):
            if number:
                self._context.statistics.count(key, number)
        if sent.full:
            warn_of_full_members(group, sent.full)

    def _other_process(self, member: str) -> str:
        """The process that owns the channel `member`, if it is another one; else ""."""
        if "!" not in member or member.startswith("@") or self._context.is_own(member):
            return ""
        return process_of(member)
