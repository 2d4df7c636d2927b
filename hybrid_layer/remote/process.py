# SPDX-License-Identifier: BSD-3-Clause
"""Builds the parts that serve one layer in one process. A forked child builds its own and leaves its parent's alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybrid_layer.policy import Policy
from hybrid_layer.remote.delivery.context import Context, DeliveryOptions
from hybrid_layer.remote.delivery.delivery import Delivery
from hybrid_layer.remote.delivery.groups import Groups
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.machine_delivery import MachineDelivery
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.pubsub_delivery import PubSubDelivery
from hybrid_layer.remote.delivery.queue_delivery import QueueDelivery
from hybrid_layer.remote.delivery.roll_calls import RollCalls
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.transport import Machine

OpenStore = Callable[[Context], Store]


class Process:
    """The remote half of one layer in one process."""

    def __init__(
        self,
        policy: Policy,
        options: DeliveryOptions,
        labels: Sequence[str],
        open_store: OpenStore,
        machine: Machine | None = None,
    ) -> None:
        context = self.context = Context(policy, options, labels, machine)
        store = self.store = open_store(context)
        heartbeat = self.heartbeat = Heartbeat(context, store)
        self.outages = Outages(context, context)
        self.machine = None if machine is None else MachineDelivery(context, store, machine)
        groups = self.groups = Groups(context, store, heartbeat, self.machine)
        self.delivery: Delivery
        if options.mode == "pubsub":
            self.delivery = PubSubDelivery(context, store, heartbeat, groups, self.outages)
        else:
            self.delivery = QueueDelivery(context, store, heartbeat, groups, self.outages)
        self.roll_calls = RollCalls(context, store, self.delivery, machine)

    def abort(self) -> None:
        """End everything, from any thread, for a layer that is garbage."""
        if self.context.identity.is_current():
            self.heartbeat.abort()
            self.delivery.abort()
            if self.machine is not None:
                self.machine.leases.abort()
            self.store.abort()
