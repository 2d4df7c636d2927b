# SPDX-License-Identifier: BSD-3-Clause
"""PostgreSQL as the store: each verb is one call of a function in the database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence

from hybrid_layer.clock import boottime, monotonic
from hybrid_layer.names import machine_of, non_local, process_of
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import Entry, MachineRenewal, QueueState, Registration, Renewal, Report
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Take
from hybrid_layer.remote.postgres import statements as s
from hybrid_layer.remote.postgres.connections import Request
from hybrid_layer.remote.postgres.entries import note_of
from hybrid_layer.remote.postgres.hosts import Host
from hybrid_layer.remote.postgres.names import of_process, part_of
from hybrid_layer.remote.postgres.reader import Reader
from hybrid_layer.remote.postgres.sending import Sending
from hybrid_layer.remote.postgres.stream_reader import StreamReader
from hybrid_layer.remote.postgres.subscription import Subscription
from hybrid_layer.transport import Position, View

_SWEEP = 60.0
"""Seconds between two sweeps."""


class PostgresStore(Sending):
    """Implements `hybrid_layer.remote.delivery.store.Store`."""

    def __init__(self, context: Context, hosts: Sequence[Host]) -> None:
        super().__init__(context, hosts)
        self._sweep_at = [monotonic() + _SWEEP] * len(hosts)

    async def put_back(self, shard: Shard, channel: str, entry: Entry, left: float) -> None:
        number = self._names.number_of(channel)
        names = self._names.prefix, channel, number, int(entry.raw), entry.stamp_ms, entry.epoch.decode()
        await self._call(shard, s.PUT_BACK, *names, channel, entry.payload, then=self._rings(number, 1))

    def reader(self, shard: Shard, notes_of: str = "") -> Reader:
        return Reader(self.connections, shard, self._names, self._context.options, notes_of)

    async def publish(self, shard: Shard, channel: str, payload: bytes, expiry: float | None = None) -> int:
        number = self._names.number_of(channel)
        heard = of_process(number)
        asked, prefix, life = boottime(), self._names.prefix, self._life(expiry)
        request = Request(s.PUBLISH, lambda link: (prefix, heard, number, link.hears(heard), channel, payload, life))
        ((received, epoch, now),) = await self.connections.run(shard.number, request)
        self._learn(shard, epoch, now, asked)
        return int(received)

    def subscription(self, shard: Shard, take: Take, on_idle: Callable[[], None]) -> Subscription:
        context = self._context
        return Subscription(self.connections, shard.number, self._names, context.name, context.options, take, on_idle)

    async def mark(self, shard: Shard, mark: bytes) -> None:
        await self._call(shard, s.MARK, of_process(self._names.number(self._context.name)), mark)

    async def group_add(
        self, shard: Shard, group: str, member: str, life: float, tell: str = "", how: str = "add"
    ) -> bool:
        life_ms, first, prefix = max(1, int(life * 1000)), shard.epoch.first.decode(), self._names.prefix
        machine = machine_of(member)
        number = self._names.number_of(member)
        asked = boottime()
        if machine:
            capacity = self._context.policy.capacity_for(member)
            added, _, epoch, now = await self._call(
                shard, s.MACHINE_ADD, prefix, group, member, f"@{machine}", number, life_ms, capacity, first,
                then=self._rings(number, 1),
            )  # fmt: skip
        else:
            part, name = part_of(member)
            process = process_of(member) if "!" in member else ""
            added, _, epoch, now = await self._call(
                shard, s.GROUP_ADD, prefix, group, part, name, process, number, life_ms, how, *self._told(tell), first,
                then=self._rings(number, 1),
            )  # fmt: skip
        self._learn(shard, epoch, now, asked)
        return bool(added)

    def _told(self, process: str) -> tuple[str, int, str]:
        """How a function notifies a process, or nobody, ""."""
        number = self._names.number(process)
        return process, number, of_process(number) if process and self._publishes else ""

    async def group_discard(self, shard: Shard, group: str, member: str, tell: str = "") -> None:
        machine, number, prefix = machine_of(member), self._names.number_of(member), self._names.prefix
        rings = self._rings(number, 0)
        if machine:
            capacity = self._context.policy.capacity_for(member)
            note = f"-|{group}|{member}"
            await self._call(shard, s.MACHINE_NOTE, prefix, f"@{machine}", number, note, capacity, then=rings)
            return
        await self._call(shard, s.GROUP_DISCARD, prefix, group, *part_of(member), *self._told(tell), then=rings)

    async def register(self, shard: Shard, group: str, machine: str, life: float, forgotten: int) -> Registration:
        life_ms, number = max(1, int(life * 1000)), self._names.number(f"@{machine}")
        asked, prefix = boottime(), self._names.prefix
        t, epoch, now = await self._call(shard, s.REGISTER, prefix, group, f"@{machine}", number, life_ms, forgotten)
        self._learn(shard, epoch, now, asked)
        return Registration(t, (t - now) / 1000 - (boottime() - asked), epoch.encode())

    async def forget(self, shard: Shard, group: str, machine: str, t: int) -> None:
        await self._call(shard, s.FORGET, self._names.prefix, group, f"@{machine}", t)

    async def renew_machine(
        self, shard: Shard, machine: str, life: float, view: View, registration: int
    ) -> MachineRenewal:
        asked, number, has_met = boottime(), self._names.number(f"@{machine}"), bool(shard.epoch.first)
        known_run = view.run if view.run < 1 << 63 else 0
        found, run, last, epoch, now = await self._call(
            shard, s.RENEW_MACHINE, self._names.prefix, f"@{machine}", number, math.ceil(life * 1000), has_met,
            str(view.registration or ""), known_run, str(registration), max(1, view.inboxes),
        )  # fmt: skip
        shard.clock.measured(now / 1000, asked)
        self._sweep_if_due(shard)
        return MachineRenewal(run, Position(last, 0), epoch.encode(), int(found))

    def stream(self, shard: Shard, machine: str) -> StreamReader:
        return StreamReader(self.connections, shard, self._names, self._context.options, machine)

    async def trim(self, shard: Shard, machine: str, position: Position) -> None:
        await self._call(shard, s.TRIM, self._names.queue(f"@{machine}!"), position.ms)

    async def renew(self, shard: Shard, addressee: str, life: float, report: Report | None = None) -> Renewal:
        asked, has_met = boottime(), bool(shard.epoch.first)
        to = self._names.prefix, addressee, math.ceil(life * 1000), has_met
        was_gone, epoch, now, notes = await self._call(shard, s.RENEW, *to, *_written(report))
        shard.clock.measured(now / 1000, asked)
        self._sweep_if_due(shard)
        return Renewal(was_gone, epoch.encode(), [note_of(note) for note in notes.split("\n") if note])

    async def counters(self, shard: Shard, report: Report | None) -> Mapping[str, int]:
        (found,) = await self._call(shard, s.COUNTERS, self._names.prefix, *_written(report))
        pairs = (each.rpartition("=") for each in found.split(",") if each)
        return {field: int(number) for field, _, number in pairs}

    async def queue_state(self, shard: Shard, channel: str) -> QueueState:
        machine = machine_of(channel)
        queue = f"@{machine}!" if machine else non_local(channel)
        pending, left, sent, full = await self._call(shard, s.QUEUE_STATE, self._names.prefix, queue, channel)
        counts = {field: number for field, number in (("sent", sent), ("full", full)) if number is not None}
        return QueueState(pending, None if left is None else left / 1000, counts)

    def _sweep_if_due(self, shard: Shard) -> None:
        if monotonic() >= self._sweep_at[shard.number]:
            self._sweep_at[shard.number] = monotonic() + _SWEEP
            self.connections.run_later(shard.number, Request(s.SWEEP, lambda _: ()))

    async def measure(self, shard: Shard) -> None:
        asked = boottime()
        _, now = await self._call(shard, s.MEASURE, self._names.prefix)
        shard.clock.measured(now / 1000, asked)

    async def flush(self, shard: Shard) -> None:
        announced = self._names.epochs if self._publishes else ""
        epoch, told = await self._call(shard, s.FLUSH, self._names.prefix, announced)
        shard.epoch.flushed(epoch.encode())
        await asyncio.gather(*(self._tell(shard, name, epoch) for name in told.split(",") if name))

    async def _tell(self, shard: Shard, addressee: str, epoch: str) -> None:
        """Leave a note about a flush for a process or ``@MACHINE``."""
        number, note, prefix = self._names.number(addressee), f"f|{epoch}", self._names.prefix
        rings = self._rings(number, 0)
        if addressee.startswith("@"):
            capacity = self._context.policy.capacity
            await self._call(shard, s.MACHINE_NOTE, prefix, addressee, number, note, capacity, then=rings)
        else:
            await self._call(shard, s.NOTE, prefix, addressee, number, epoch, note, then=rings)

    async def close(self) -> None:
        await self.connections.close()

    def abort(self) -> None:
        self.connections.abort()


def _written(report: Report | None) -> tuple[str, int, str, str]:
    """A report as functions take it."""
    if report is None:
        return "", 0, "", ""
    return report.reporter, report.number, ",".join(report.counts), ",".join(map(str, report.counts.values()))
