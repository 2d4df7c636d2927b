# SPDX-License-Identifier: BSD-3-Clause
"""What the verbs of the store need, and those for several messages at once."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from hybrid_layer.clock import boottime
from hybrid_layer.names import machine_of, non_local, process_of
from hybrid_layer.remote.delivery.capacities import Capacities
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import GroupSent, Outcome, SeveralSent
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.knowledge import Knowledge
from hybrid_layer.remote.redis.scripts import Script
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.transport import Excluded


def milliseconds(seconds: float) -> int:
    """A life, as scripts take it."""
    return max(1, int(seconds * 1000))


class SeveralAtOnce:
    """The base of `hybrid_layer.remote.redis.store.RedisStore`."""

    def __init__(self, context: Context, hosts: Sequence[Host]) -> None:
        self._context = context
        self._hosts = hosts
        self._keys = [Keys(context.prefix, host.tag) for host in hosts]
        self._known = [Knowledge(shard) for shard in context.shards]
        self._publishes = context.options.mode == "pubsub"
        """Processes are subscribed to their own messages and to those of their groups."""
        self._is_spread = "1" if len(hosts) > 1 else "0"
        """Whether a group and the queue of a member may be on different shards, for the scripts."""
        self._capacities = Capacities(context.policy)
        self.connections = Connections(context, hosts)

    def _run(self, shard: Shard, script: Script, keys: list[str], *args: str | bytes | int) -> Coroutine[Any, Any, Any]:
        return self.connections.run(shard.number, script.command(keys, *args), script.shape)

    def _places(self, shard: Shard, channel: str) -> list[str]:
        """The keys by which a script stores for `channel`."""
        keys, machine = self._keys[shard.number], machine_of(channel)
        if machine:
            return [keys.inbox(f"@{machine}!"), keys.epoch, keys.alive(f"@{machine}")]
        if "!" in channel:
            return [keys.inbox(non_local(channel)), keys.epoch, keys.alive(process_of(channel))]
        return [keys.queue(channel), keys.epoch]

    async def send_multiple(self, shard: Shard, channel: str, payloads: Sequence[bytes], capacity: int) -> SeveralSent:
        knowledge, places = self._known[shard.number], self._places(shard, channel)
        asked, known = boottime(), knowledge.for_scripts()
        head = (payloads[0], channel, capacity, self._context.expiry_ms, known, "")
        number, expired, epoch, now_ms, *several = await self._run(shard, scripts.SEND, places, *head, *payloads[1:])
        self._learn(shard, epoch, now_ms, asked)
        outcome = Outcome(number)
        done = several[0] if several else int(outcome is not Outcome.FULL)
        if done and outcome is not Outcome.DEAD:
            knowledge.ran(known, asked)
        return SeveralSent(outcome, expired, done)

    async def group_send_multiple(
        self, shard: Shard, group: str, payloads: Sequence[bytes], skip: str, excluded: Excluded
    ) -> GroupSent:
        names = [part + name for part, local_names in excluded.items() for name in local_names]
        return await self._send_to_group(shard, group, [len(payloads), len(names), *payloads, *names], skip)

    async def ask(self, shard: Shard, group: str, payload: bytes, skip: str, expiry: float) -> int:
        sent = await self._send_to_group(shard, group, [1, -milliseconds(expiry), payload], skip)
        return sent.reached + sent.full

    async def _send_to_group(
        self, shard: Shard, group: str, contents: Sequence[str | bytes | int], skip: str
    ) -> GroupSent:
        keys, knowledge = self._keys[shard.number], self._known[shard.number]
        places, (capacity, capacities) = [keys.group(group), keys.epoch], self._capacities.of(group)
        options = (keys.base, self._is_spread, f"@{skip}!" if skip else "", group if self._publishes else "")
        while True:
            asked, known = boottime(), knowledge.for_scripts()
            head = (self._context.expiry_ms, capacity, *options)
            reply = await self._run(shard, scripts.GROUP_SEND_MULTIPLE, places, *head, *contents, *capacities, known)
            if reply[0] != -1:
                break
            capacities = self._capacities.learn(group, reply[1:])
        self._learn(shard, reply[4], reply[5], asked)
        knowledge.ran(known, asked)
        elsewhere = [name.decode("ascii", "replace") for name in reply[6]] if len(reply) > 6 else ()
        reached, full, dead, expired = reply[:4]
        return GroupSent(reached, full, dead, expired, elsewhere)

    async def group_channels(self, shard: Shard, group: str) -> list[str]:
        keys, known = self._keys[shard.number], self._known[shard.number].of_clock()
        args = (keys.base, self._context.expiry_ms, known)
        found = await self._run(shard, scripts.GROUP_CHANNELS, [keys.group(group), keys.epoch], *args)
        return [name.decode("ascii", "replace") for name in found]

    @staticmethod
    def _learn(shard: Shard, epoch: bytes, now_ms: int, asked: float) -> None:
        """Note what an answer says of the server's clock and epoch."""
        shard.clock.measured(now_ms / 1000, asked)
        shard.epoch.meet(epoch)
