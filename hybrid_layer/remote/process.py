"""Puts together what serves one layer in one process. A forked child makes its own and leaves its parent's alone."""

from __future__ import annotations

from typing import Any

from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.delivery import Mail
from hybrid_layer.remote.delivery.groups import Members
from hybrid_layer.remote.delivery.heartbeat import Keeper
from hybrid_layer.remote.delivery.inbox_reader import InboxReader
from hybrid_layer.remote.delivery.machine_reader import MachineReader
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.pubsub_delivery import PubSubMail
from hybrid_layer.remote.delivery.queue_delivery import QueuedMail
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.options import RemoteOptions
from hybrid_layer.transport import Machine, Settings


class Process:
    """The remote half of one layer, as one process has it."""

    def __init__(self, settings: Settings, options: RemoteOptions, machine: Machine | None) -> None:
        context = self.context = Context(settings, options, machine)
        self.connections = Connections(
            options.hosts, options.timeout, lambda shard: self.keeper.connection_lost(shard), context.statistics.count
        )
        self.keeper = Keeper(context, self.connections, machine)
        self.outages = Outages(context)
        self.machine_reader = None if machine is None else MachineReader(context, self.connections, machine)
        publishes = options.way == "pubsub"
        self.members = Members(context, self.connections, self.keeper, machine, self.machine_reader, publishes)
        self.mail: Mail
        if publishes:
            self.mail = PubSubMail(context, self.connections, self.keeper, self.members, self.outages)
        else:
            reader = InboxReader(context, self.connections, self.keeper, self.outages)
            self.mail = QueuedMail(context, self.connections, self.keeper, self.members, reader)

    def dispose(self) -> None:
        """End everything, from any thread. For a layer that is garbage."""
        if self.context.identity.is_current():
            self.keeper.stop()
            self.mail.dispose()
            if self.machine_reader is not None:
                self.machine_reader.stop()
            self.connections.abandon()


inherited: list[Any] = []
"""A parent's objects, kept in its children: their clean-up would touch event loops that the parent still runs."""
