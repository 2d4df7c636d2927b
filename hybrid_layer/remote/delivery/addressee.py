"""The addressees that the servers know: a process and its machine. Each has an id, inboxes and memberships.

Normal channels are in the machine's shared memory, but groups are on the servers. So a normal channel is a member
under the name of the machine's inbox, ``@MACHINE!jobs``. Any process of the machine reads that inbox and delivers to
the local queue.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import HybridLayerError, InvalidName
from hybrid_layer.names import check_channel, local
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Entry
from hybrid_layer.statistics import warn
from hybrid_layer.transport import Machine


class Taken(NamedTuple):
    """An entry that was read and must be handed over."""

    entry: Entry
    deadline: float
    """When it expires, on `hybrid_layer.clock`."""
    generation: int
    """The generation of the shard's epoch: a later flush drops the entry."""


class Addressee(Protocol):
    """A process or a machine."""

    async def known_as(self) -> str | None:
        """Its id on the servers; None while they need not know it."""


class ProcessAddressee:
    """Implements `Addressee` for the calling process."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def known_as(self) -> str | None:
        return self._context.name or None

    def hand_over(self, taken: Taken) -> None:
        """Give an entry to its channels."""
        entry, deadline, generation = taken
        self._context.inbox.deliver(entry.names, entry.payload, deadline, generation)


class MachineAddressee:
    """Implements `Addressee` for the machine, over the local half, which may fail."""

    def __init__(self, context: Context, machine: Machine) -> None:
        self._context = context
        self._machine = machine

    async def known_as(self) -> str | None:
        return await self.inbox_id() if self.has_members() else None

    async def inbox_id(self) -> str | None:
        """Its id, even without members. None if the local half does not work."""
        try:
            return f"@{await self._machine.id()}"
        except (HybridLayerError, OSError) as error:
            warn("machine", f"The local half of the layer does not work: {error}")
            return None

    def has_members(self) -> bool:
        """Whether a process of this machine made a normal channel a member, so that the inbox must be read."""
        try:
            return self._machine.has_members()
        except (HybridLayerError, OSError) as error:
            warn("machine", f"The local half of the layer does not work: {error}")
            return False

    def keeps(self, channel: str) -> bool:
        """Whether `channel` is a normal channel with its queue in the machine's memory."""
        return "!" not in channel and self._machine.keeps(channel)

    async def member(self, channel: str) -> str:
        """The name on the servers of the member `channel`, whose queue is on the machine."""
        return f"@{await self._machine.id()}!{channel}"

    async def mark_members(self) -> None:
        """Make `has_members` true for all processes of the machine."""
        await self._machine.mark_members()

    async def hand_over(self, shard: Shard, taken: Taken) -> None:
        """Give an entry from `shard` to its channels."""
        life = taken.deadline - monotonic()
        if life <= 0:
            self._context.statistics.count("expired", len(taken.entry.names))
            return
        for name in taken.entry.names:
            try:
                channel = check_channel(local(name))
            except InvalidName:
                self._context.undecodable(shard, "an entry")
                continue
            try:
                await self._machine.deliver(channel, taken.entry.payload, life)
            except HybridLayerError as error:
                self._context.statistics.count("memory")
                warn(("machine", channel), f"A message to a group could not be delivered to {channel}: {error}")
