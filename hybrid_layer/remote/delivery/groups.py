"""Groups as the servers keep them: memberships in sorted sets, and messages to the members by script.

A membership lies on the server of the member's inbox, so a message to a group is one script on every server.
"""

from __future__ import annotations

import asyncio

from hybrid_layer.clock import boottime
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.names import process_of
from hybrid_layer.remote.delivery.context import Context, Shard
from hybrid_layer.remote.delivery.heartbeat import Keeper
from hybrid_layer.remote.delivery.machine_reader import MachineReader
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.server import replies
from hybrid_layer.statistics import warn_of_full_members
from hybrid_layer.transport import Machine

_GROUPS_REMEMBERED = 1000


class Members:
    """The groups of one layer in one process. `publishes` says that processes listen for their groups too."""

    def __init__(
        self,
        context: Context,
        connections: Connections,
        keeper: Keeper,
        machine: Machine | None,
        machine_reader: MachineReader | None,
        publishes: bool,
    ) -> None:
        self._context = context
        self._connections = connections
        self._keeper = keeper
        self._machine_reader = machine_reader
        self._machine = machine
        self._publishes = publishes
        self._life_ms = max(1, int(context.policy.group_expiry * 1000))
        self._part_capacities: dict[str, dict[str, int]] = {}
        """By group: the capacity of each part that was met in it. Used only when capacities differ by channel."""

    async def add(self, group: str, channel: str) -> None:
        """Make `channel` a member, and tell its process if that is another one."""
        context = self._context
        member = await self._name(channel)
        if member.startswith("@"):
            assert self._machine is not None
            await self._machine.mark_members()
            # The machine must be known before it has a member, or a send would take the member for dead.
            await self._keeper.open_machine(member)
        shard = context.shard_of(member)
        notes, told = self._telling(shard, channel)
        keys = [shard.keys.group(group), shard.keys.epoch, shard.keys.parts(group), *notes]
        command = scripts.GROUP_ADD.command(keys, member, self._life_ms, "add", group, *told)
        shard.epoch.meet(await self._connections.run(shard.number, command, replies.is_text))
        if not self._is_foreign(channel):
            self._keeper.remember(group, member, shard.number)
        if member.startswith("@") and self._machine_reader is not None:
            self._machine_reader.settle()
            self._machine_reader.look_now()

    async def discard(self, group: str, channel: str) -> None:
        """End the membership, and tell its process if that is another one."""
        context = self._context
        member = await self._name(channel)
        if not self._is_foreign(channel):
            self._keeper.forget(group, member)
        shard = context.shard_of(member)
        notes, told = self._telling(shard, channel)
        command = scripts.GROUP_DISCARD.command(
            [shard.keys.group(group), *notes], member, group, shard.keys.parts(group), *told
        )
        await self._connections.run(shard.number, command)

    async def send(self, group: str, payload: bytes) -> None:
        """Give `payload` to the members on every server. Raises `RemoteUnavailable` after the others were served."""
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
        context, policy = self._context, self._context.policy
        keys = [shard.keys.group(group), shard.keys.epoch]
        script = scripts.GROUP_PUBLISH if self._publishes else scripts.GROUP_SEND
        names = [group] if self._publishes else []
        known = self._part_capacities.get(group, {})
        while True:
            capacities = [text for part, capacity in list(known.items()) for text in (part, capacity)]
            capacity = policy.capacity if policy.uniform else 0
            asked, told = boottime(), shard.for_scripts()
            command = script.command(
                keys, payload, context.expiry_ms, capacity, shard.keys.base, *names, *capacities, told
            )
            reply = await self._connections.run(shard.number, command, replies.is_group_outcome)
            if reply[0] != -1:
                break
            parts = [part.decode() for part in reply[1:]]
            if len(self._part_capacities) >= _GROUPS_REMEMBERED:
                self._part_capacities.clear()
            # Only what was asked for just now, and what else is known on this shard: parts of dead processes go.
            known = {**known, **{part: policy.capacity_for(part) for part in parts}}
            self._part_capacities[group] = known
        shard.epoch.meet(reply[4])
        shard.clock.measured(reply[5] / 1000, asked)
        shard.ran(told, asked)
        for key, number in zip(("sent", "full", "dead", "expired"), reply, strict=False):
            if number:
                context.statistics.count(key, number)
        if reply[1]:
            warn_of_full_members(group, reply[1])

    async def _name(self, channel: str) -> str:
        """How the servers know a member: a normal channel of a machine by the machine's inbox."""
        if "!" in channel or self._machine is None or not self._machine.keeps(channel):
            return channel
        return f"@{await self._machine.id()}!{channel}"

    def _is_foreign(self, channel: str) -> bool:
        return "!" in channel and not self._context.is_own(channel)

    def _telling(self, shard: Shard, channel: str) -> tuple[list[str], list[str]]:
        """The key, or else the argument, by which a script tells another process of its membership."""
        if not self._is_foreign(channel):
            return [], []
        keys, process = shard.keys, process_of(channel)
        return ([], [keys.process(process)]) if self._publishes else ([keys.notes(process)], [])
