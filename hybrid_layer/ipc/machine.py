"""The machine, as the remote half sees it: its shared memory keeps the normal channels that are members of groups."""

from __future__ import annotations

from collections.abc import Callable

from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.transport import LocalTransport
from hybrid_layer.statistics import warn


class LocalMachine:
    """Implements `hybrid_layer.transport.Machine` over the segment that `transport` uses."""

    def __init__(self, transport: LocalTransport, keeps: Callable[[str], bool]) -> None:
        self._transport = transport
        self.keeps = keeps

    async def id(self) -> str:
        """The random id that all processes of this machine read in the segment."""
        return (await self._transport.joined()).segment.machine

    async def deliver(self, channel: str, payload: bytes, life: float) -> None:
        """Put a group's message into a normal channel's queue, for `life` seconds. A full queue drops it."""
        await self._transport.forward(channel, payload, life)

    def has_members(self) -> bool:
        """Whether a process of this machine has added a normal channel to a group on the servers."""
        return self._transport.process().segment.core.machine_members

    async def mark_members(self) -> None:
        """Make `has_members` true for all processes of this machine."""
        (await self._transport.joined()).segment.core.mark_members()

    def meet_flush(self, shard: int, incarnation: int, flushes: int) -> None:
        """Forget this machine's messages, once, if the servers were flushed since it last met them. From any thread."""
        try:
            process = self._transport.process()
        except HybridLayerError as error:  # the servers' side goes on without this machine's
            warn("meet flush", f"A flush of the servers was not repeated in shared memory: {error}")
            return
        if process.segment.core.meet_remote_flush(shard, incarnation, flushes):
            process.segment.defer(_core.Segment.flush)
            process.inbox.clear()
