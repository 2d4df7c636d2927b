"""Whom the servers know: a process, and the machine that it runs on. Each has an id, inboxes and memberships.

Normal channels live in the machine's shared memory, while groups live on the servers. So a normal channel is a member
by the machine's inbox, ``@MACHINE!jobs``; any process of the machine reads that and delivers to the local queue.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """An entry that was read, and is to be handed over."""

    entry: Entry
    left: float
    """Seconds that are left of its life."""
    generation: int
    """That of the shard's epoch: a flush since then drops the entry."""


class Addressee(Protocol):
    """A process or a machine."""

    async def known_as(self) -> str | None:
        """Its id on the servers; None while they need not know it."""

    async def hand_over(self, shard: Shard, taken: Sequence[Taken]) -> None:
        """Give what came from `shard` to the channels."""


class ProcessAddressee:
    """Implements `Addressee` for the calling process."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def known_as(self) -> str | None:
        return self._context.name or None

    async def hand_over(self, shard: Shard, taken: Sequence[Taken]) -> None:
        deliver = self._context.inbox.deliver
        for entry, left, generation in taken:
            deliver(entry.names, entry.payload, monotonic() + left, generation)


class MachineAddressee:
    """Implements `Addressee` for the machine, by its local half, which may be out of order."""

    def __init__(self, context: Context, machine: Machine) -> None:
        self._context = context
        self._machine = machine

    async def known_as(self) -> str | None:
        return await self.inbox_id() if self.has_members() else None

    async def inbox_id(self) -> str | None:
        """Its id, whether it has members or not. None where the local half does not work."""
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
        """Whether `channel` is a normal one whose queue is in the machine's memory."""
        return "!" not in channel and self._machine.keeps(channel)

    async def member(self, channel: str) -> str:
        """How the servers know `channel`, which the machine keeps, as a member."""
        return f"@{await self._machine.id()}!{channel}"

    async def mark_members(self) -> None:
        """Make `has_members` true for all processes of the machine."""
        await self._machine.mark_members()

    async def hand_over(self, shard: Shard, taken: Sequence[Taken]) -> None:
        for entry, _, _ in taken:
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
