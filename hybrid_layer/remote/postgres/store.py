# SPDX-License-Identifier: BSD-3-Clause
"""PostgreSQL as the store: each verb is one call of a function in the database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hybrid_layer.clock import boottime, monotonic
from hybrid_layer.names import machine_of, non_local, process_of
from hybrid_layer.remote.delivery.capacities import Capacities
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import Entry, GroupSent, MachineRenewal, Outcome, Registration, Renewal, Sent
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Take
from hybrid_layer.remote.postgres import statements as s
from hybrid_layer.remote.postgres.connections import Connections, Request
from hybrid_layer.remote.postgres.entries import parse_note
from hybrid_layer.remote.postgres.hosts import Host
from hybrid_layer.remote.postgres.link import Link
from hybrid_layer.remote.postgres.names import Names, bell, of_process, part_of
from hybrid_layer.remote.postgres.pipeline import Rows
from hybrid_layer.remote.postgres.reader import Reader
from hybrid_layer.remote.postgres.statements import Argument, Statement
from hybrid_layer.remote.postgres.stream_reader import StreamReader
from hybrid_layer.remote.postgres.subscription import Subscription
from hybrid_layer.transport import Position, View

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_SWEEP = 60.0
"""Seconds between two sweeps."""
_LEAST = -(2**63)


class PostgresStore:
    """Implements `hybrid_layer.remote.delivery.store.Store`."""

    def __init__(self, context: Context, hosts: Sequence[Host]) -> None:
        self._context = context
        self._names = Names(context.prefix)
        self._publishes = context.options.mode == "pubsub"
        self._is_spread = len(hosts) > 1
        """Whether a group and the queue of a member may be on different shards."""
        self._capacities = Capacities(context.policy)
        self.connections = Connections(context, hosts)
        self._sweep_at = [monotonic() + _SWEEP] * len(hosts)

    async def _call(
        self,
        shard: Shard,
        statement: Statement,
        *arguments: Argument,
        key: int = 0,
        then: Callable[[Link, Rows], None] | None = None,
    ) -> Any:
        """The only row of the answer."""
        return (await self.connections.run(shard.number, Request(statement, lambda _: arguments, key, then)))[0]

    def _learn(self, shard: Shard, epoch: str, now_ms: int, asked: float) -> None:
        shard.clock.measured(now_ms / 1000, asked)
        known = epoch.encode()
        if known != shard.epoch.snapshot[0]:
            shard.epoch.meet(known)

    def _rings(self, number: int, place: int) -> Callable[[Link, Rows], None]:
        """Tells the own session's reader of a queue, if the answer has "rang", at `place`, false."""

        def tell(link: Link, rows: Rows) -> None:
            if rows and not rows[0][place]:
                link.tell(bell(number))

        return tell

    async def send(self, shard: Shard, channel: str, payload: bytes, capacity: int) -> Sent:
        machine = machine_of(channel)
        if machine:
            queue, addressee = f"@{machine}!", f"@{machine}"
        elif "!" in channel:
            queue, addressee = non_local(channel), process_of(channel)
        else:
            queue, addressee = channel, ""
        number = self._names.number(addressee or channel)
        asked, life = boottime(), self._context.expiry_ms
        prefix = self._names.prefix
        outcome, expired, _, epoch, now = await self._call(
            shard, s.SEND, prefix, queue, number, addressee, channel, payload, capacity, life,
            key=number, then=self._rings(number, 2),
        )  # fmt: skip
        self._learn(shard, epoch, now, asked)
        return Sent(_OUTCOMES[outcome], expired)

    async def put_back(self, shard: Shard, channel: str, entry: Entry, left: float) -> None:
        number = self._names.number_of(channel)
        names = self._names.prefix, channel, number, int(entry.raw), entry.stamp_ms, entry.epoch.decode()
        await self._call(shard, s.PUT_BACK, *names, channel, entry.payload, then=self._rings(number, 1))

    def reader(self, shard: Shard, notes_of: str = "") -> Reader:
        return Reader(self.connections, shard, self._names, self._context.options, notes_of)

    async def publish(self, shard: Shard, channel: str, payload: bytes) -> int:
        number = self._names.number_of(channel)
        heard = of_process(number)
        asked, prefix, life = boottime(), self._names.prefix, self._context.expiry_ms
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

    async def group_send(self, shard: Shard, group: str, payload: bytes, skip: str = "") -> GroupSent:
        life, channel = self._context.expiry_ms, self._names.group(group) if self._publishes else ""
        capacity, known = self._capacities.of(group)
        total, elsewhere = [0, 0, 0, 0], list[str]()
        after, asked = _LEAST, boottime()
        while True:
            to = (
                group,
                payload,
                life,
                capacity,
                *_lists(known),
                f"@{skip}" if skip else "",
                self._is_spread,
                after,
                channel,
            )
            request = Request(s.GROUP_SEND, partial(self._group_send_with, to), then=_tell_silent)
            ((*numbers, epoch, now, others, _, missing, more),) = await self.connections.run(shard.number, request)
            if missing:
                known = self._capacities.learn(group, [name.encode() for name in missing.split(",")])
                continue
            total = [one + other for one, other in zip(total, numbers, strict=True)]
            elsewhere += filter(None, others.split(","))
            if more is None:
                break
            after = more
        self._learn(shard, epoch, now, asked)
        reached, full, dead, expired = total
        return GroupSent(reached, full, dead, expired, elsewhere)

    def _group_send_with(self, to: tuple[Argument, ...], link: Link) -> Sequence[Argument]:
        own = self._names.number(self._context.name) if self._publishes and self._context.name else 0
        return (self._names.prefix, *to, own if own and link.hears(of_process(own)) else 0)

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

    async def renew(self, shard: Shard, addressee: str, life: float) -> Renewal:
        asked, has_met = boottime(), bool(shard.epoch.first)
        was_gone, epoch, now, notes = await self._call(
            shard, s.RENEW, self._names.prefix, addressee, math.ceil(life * 1000), has_met
        )
        shard.clock.measured(now / 1000, asked)
        self._sweep_if_due(shard)
        return Renewal(was_gone, epoch.encode(), [parse_note(note) for note in notes.split("\n") if note])

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


def _lists(capacities: Sequence[str | int]) -> tuple[str, str]:
    """The names and the numbers in name, number, name, number... as lists for a function."""
    return ",".join(map(str, capacities[::2])), ",".join(map(str, capacities[1::2]))


def _tell_silent(link: Link, rows: Rows) -> None:
    for number in filter(None, rows[0][7].split(",")):
        link.tell(bell(int(number)))
