# SPDX-License-Identifier: BSD-3-Clause
"""Delivery to this machine: what the servers have for it gets into its shared memory, whichever process reads it."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_layer.exceptions import ConfigurationError, HybridLayerError, SegmentDamaged
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.leases import Leases
from hybrid_layer.remote.delivery.machine_reader import MachineReader
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.registrations import Registrations
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.transport import MOST_SHARDS, Excluded, Machine


def check_shards(number: int) -> None:
    """Raise `ConfigurationError` if shared memory cannot follow so many shards."""
    if number > MOST_SHARDS:
        raise ConfigurationError(
            f"hosts stands for {number} shards. HybridChannelLayer uses at most {MOST_SHARDS}: name fewer hosts, or "
            f"give clusters fewer virtual_shards."
        )


class MachineDelivery:
    """What one process does for its machine, for one layer."""

    def __init__(self, context: Context, store: Store, machine: Machine) -> None:
        self._machine = machine
        self.owns = machine.owns
        self._opened = ""
        """The id by which this process has made the machine known."""
        self.outages = Outages(context, machine)
        self.registrations = Registrations(context, store, machine)
        readers = [MachineReader(context, store, shard, machine, self.registrations) for shard in context.shards]
        self.leases = Leases(context, machine, readers, self.outages)

    async def open(self) -> None:
        """Make the machine known to the servers, and keep it known: this process has a channel named after it.

        Raises `RemoteUnavailable`.
        """
        name = await self._machine.id()
        if self._opened != name:
            await self.registrations.open()
            self._opened = name
            self.leases.reads_always = True
        self.serve()

    def serve(self) -> None:
        """Read from now on while the machine has groups, unless another process does."""
        self.leases.settle()

    async def join(self, group: str, channel: str) -> None:
        """Make `channel`, which this machine owns, a member."""
        self.serve()
        await self.registrations.join(group, channel)

    async def leave(self, group: str, channel: str) -> None:
        """End the membership of a channel that this machine owns."""
        await self._machine.leave(group, channel)

    async def group_send(
        self, group: str, payloads: Sequence[bytes], excluded: Excluded | None
    ) -> tuple[str, HybridLayerError | None]:
        """Send to the members on this machine. Returns what the server is to pass over, and the error.

        That is the machine as it was named in the same step. If nothing was stored here, it gets the message over the
        server; but not if that is uncertain, or it might get the message twice.
        """
        machine = self._machine
        try:
            await machine.id()  # so that the next line need not wait until this process has attached
            if not machine.has_groups():
                return "", None
            if excluded is None:
                return await machine.group_send(group, payloads[0]), None
            return await machine.group_send_multiple(group, payloads, excluded), None
        except SegmentDamaged as error:
            return await machine.id(), error
        except HybridLayerError as error:
            return "", error
