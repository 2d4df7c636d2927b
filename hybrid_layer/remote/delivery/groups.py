# SPDX-License-Identifier: BSD-3-Clause
"""Groups on the servers: memberships, and messages to the members.

A group is on one shard. So a message to it is one call, however many shards there are; only normal channels whose
queues are on the servers need another call each.

Members on this machine, which are its normal channels and those named after it, are in shared memory. They get a
message there, and the server passes the machine over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hybrid_layer.exceptions import ChannelFull, RemoteUnavailable
from hybrid_layer.names import addressee_of
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.machine_delivery import MachineDelivery
from hybrid_layer.remote.delivery.queues import send_several_to_queue, send_to_queue
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.several import next_step
from hybrid_layer.statistics import warn_of_full_members
from hybrid_layer.transport import Excluded


class Groups:
    """The groups of one layer in one process. Without a local half, `machine` is None."""

    def __init__(self, context: Context, store: Store, heartbeat: Heartbeat, machine: MachineDelivery | None) -> None:
        self._context = context
        self._store = store
        self._heartbeat = heartbeat
        self._machine = machine

    async def add(self, group: str, channel: str) -> None:
        """Make `channel` a member, and notify its process or machine if that is another one."""
        context, store = self._context, self._store
        shard, life = context.shard_of(group), context.policy.group_expiry
        if self._machine is not None and await self._machine.owns(channel):
            await self._machine.join(group, channel)
        elif tell := self._other_addressee(channel):
            if not await store.group_add(shard, group, channel, life, tell):
                context.statistics.count("dead")
        else:
            if "!" in channel:  # the server must know a process before it has a member, which would count as dead
                await self._heartbeat.make_known(shard)
            await store.group_add(shard, group, channel, life)
            self._heartbeat.remember(group, channel, shard.number)

    async def discard(self, group: str, channel: str) -> None:
        """End the membership, and notify its process or machine if that is another one."""
        if self._machine is not None and await self._machine.owns(channel):
            await self._machine.leave(group, channel)
            return
        tell = self._other_addressee(channel)
        if not tell:
            self._heartbeat.forget(group, channel)
        await self._store.group_discard(self._context.shard_of(group), group, channel, tell)

    async def send(self, group: str, payload: bytes) -> None:
        """Send `payload` to the members. Raises an error of either half; it says who got the message nevertheless."""
        await self._send(group, (payload,), None)

    async def send_multiple(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> None:
        """As `send`, for several, in order, without `excluded`: in steps, each to the members as of then."""
        done = 0
        while done < len(payloads):
            step = next_step(payloads, done)
            await self._send(group, step, excluded)
            done += len(step)

    async def _send(self, group: str, payloads: Sequence[bytes], excluded: Excluded | None) -> None:
        """None for `excluded` stands for a single message, to all."""
        here, failure = "", None
        if self._machine is not None:
            here, failure = await self._machine.group_send(group, payloads, excluded)
        try:
            await self._send_to_server(group, payloads, here, excluded)
        except RemoteUnavailable as error:
            if here and failure is None:
                raise RemoteUnavailable(f"{error} The members of {group} on this machine got the message.") from None
            raise
        if failure is not None:
            others = "The members on other machines got" if here else "All members, these too, get"
            raise type(failure)(f"{failure} {others} the message over the servers.") from None

    async def _send_to_server(
        self, group: str, payloads: Sequence[bytes], passed_over: str, excluded: Excluded | None
    ) -> None:
        context, store = self._context, self._store
        shard = context.shard_of(group)
        if excluded is None:
            sent = await store.group_send(shard, group, payloads[0], passed_over)
        else:
            sent = await store.group_send_multiple(shard, group, payloads, passed_over, excluded)
        full = sent.full
        for key, number in (("sent", sent.reached), ("full", full), ("dead", sent.dead), ("expired", sent.expired)):
            if number:
                context.statistics.count(key, number)
        if sent.elsewhere:
            full += await self._send_elsewhere(group, sent.elsewhere, payloads)
        if full:
            warn_of_full_members(group, full)

    async def _send_elsewhere(self, group: str, channels: Sequence[str], payloads: Sequence[bytes]) -> int:
        """Send to normal channels, whose queues may be on any shard. Returns how many were full."""
        results = await asyncio.gather(
            *(self._send_to_queue(channel, payloads) for channel in channels), return_exceptions=True
        )
        failures = [result for result in results if isinstance(result, RemoteUnavailable)]
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, RemoteUnavailable | ChannelFull):
                raise result
        if failures:
            causes = " ".join(dict.fromkeys(map(str, failures)))  # several queues may be on one server
            raise RemoteUnavailable(f"{causes} The other members of {group} got the message.")
        return sum(isinstance(result, ChannelFull) for result in results)

    async def _send_to_queue(self, channel: str, payloads: Sequence[bytes]) -> None:
        if len(payloads) == 1:
            await send_to_queue(self._context, self._store, channel, payloads[0])
        else:
            await send_several_to_queue(self._context, self._store, channel, payloads)

    def _other_addressee(self, channel: str) -> str:
        """The process or machine that owns `channel`, if it is another one; else ""."""
        if "!" not in channel or self._context.is_own(channel):
            return ""
        return addressee_of(channel)
