"""Mail by queues: each message waits in a list on a server, the inbox, until the process pops it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid_layer.names import non_local, process_of
from hybrid_layer.remote.inbox_reader import InboxReader
from hybrid_layer.remote.members import Members
from hybrid_layer.remote.queues import store

if TYPE_CHECKING:
    from hybrid_layer.remote.process import Process
    from hybrid_layer.transport import Machine


class QueuedMail:
    """Implements `hybrid_layer.remote.mail.Mail`."""

    def __init__(self, process: Process, machine: Machine | None) -> None:
        self._process = process
        self._members = Members(process, machine, publishes=False)
        self._reader = InboxReader(process)
        self.is_open = False
        self.poll = self._reader.ensure
        self.relax = self._reader.relax
        self.part_added = self._reader.parts_changed
        self.stop = self._reader.stop
        self.group_add = self._members.add
        self.group_discard = self._members.discard
        self.group_send = self._members.send

    async def open(self) -> None:
        await self._process.keeper.open()
        self.is_open = True

    async def send(self, channel: str, payload: bytes) -> None:
        shard = self._process.shard_of(channel)
        keys = shard.keys
        await store(
            self._process,
            shard,
            channel,
            payload,
            [keys.inbox(non_local(channel)), keys.epoch, keys.alive(process_of(channel))],
        )

    def dispose(self) -> None:
        """Nothing: the reading belongs to loops, and ends with what they have open."""
