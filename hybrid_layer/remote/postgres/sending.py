# SPDX-License-Identifier: BSD-3-Clause
"""Sending to queues and groups, one message or several at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hybrid_layer.clock import boottime
from hybrid_layer.names import machine_of, non_local, process_of
from hybrid_layer.remote.delivery.capacities import Capacities
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import GroupSent, Outcome, Sent, SeveralSent
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.postgres import statements as s
from hybrid_layer.remote.postgres.connections import Connections, Request
from hybrid_layer.remote.postgres.hosts import Host
from hybrid_layer.remote.postgres.link import Link
from hybrid_layer.remote.postgres.names import Names, bell, of_process
from hybrid_layer.remote.postgres.pipeline import Rows
from hybrid_layer.remote.postgres.statements import Argument, Statement
from hybrid_layer.transport import Excluded

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_LEAST = -(2**63)


class Sending:
    """The verbs of `hybrid_layer.remote.delivery.store.Store` that send, and what all verbs need."""

    def __init__(self, context: Context, hosts: Sequence[Host]) -> None:
        self._context = context
        self._names = Names(context.prefix)
        self._publishes = context.options.mode == "pubsub"
        self._is_spread = len(hosts) > 1
        """Whether a group and the queue of a member may be on different shards."""
        self._capacities = Capacities(context.policy)
        self.connections = Connections(context, hosts)

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

    async def send(
        self, shard: Shard, channel: str, payload: bytes, capacity: int, expiry: float | None = None
    ) -> Sent:
        number, to = self._queue_of(channel)
        asked, life = boottime(), self._life(expiry)
        outcome, expired, _, epoch, now = await self._call(
            shard, s.SEND, *to, payload, capacity, life, key=number, then=self._rings(number, 2)
        )
        self._learn(shard, epoch, now, asked)
        return Sent(_OUTCOMES[outcome], expired)

    async def send_multiple(self, shard: Shard, channel: str, payloads: Sequence[bytes], capacity: int) -> SeveralSent:
        number, to = self._queue_of(channel)
        asked, life = boottime(), self._life(None)
        outcome, expired, _, epoch, now, done = await self._call(
            shard, s.SEND_MULTIPLE, *to, tuple(payloads), capacity, life, then=self._rings(number, 2)
        )
        self._learn(shard, epoch, now, asked)
        return SeveralSent(_OUTCOMES[outcome], expired, done)

    def _queue_of(self, channel: str) -> tuple[int, tuple[Argument, ...]]:
        """The number of the queue of `channel`, and the arguments that say where a message goes."""
        machine = machine_of(channel)
        if machine:
            queue, addressee = f"@{machine}!", f"@{machine}"
        elif "!" in channel:
            queue, addressee = non_local(channel), process_of(channel)
        else:
            queue, addressee = channel, ""
        number = self._names.number(addressee or channel)
        return number, (self._names.prefix, queue, number, addressee, channel)

    def _life(self, expiry: float | None) -> int:
        """Milliseconds until a message expires."""
        return self._context.expiry_ms if expiry is None else max(1, int(expiry * 1000))

    async def group_send(self, shard: Shard, group: str, payload: bytes, skip: str = "") -> GroupSent:
        return await self._group_send(shard, group, s.GROUP_SEND, payload, skip, "")

    async def group_send_multiple(
        self, shard: Shard, group: str, payloads: Sequence[bytes], skip: str, excluded: Excluded
    ) -> GroupSent:
        names = ",".join(part + name for part, local_names in excluded.items() for name in local_names)
        return await self._group_send(shard, group, s.GROUP_SEND_MULTIPLE, tuple(payloads), skip, names)

    async def group_channels(self, shard: Shard, group: str) -> list[str]:
        (found,) = await self._call(shard, s.GROUP_CHANNELS, self._names.prefix, group)
        return [name for name in found.split(",") if name]

    async def ask(self, shard: Shard, group: str, payload: bytes, skip: str, expiry: float) -> int:
        channel = self._names.group(group) if self._publishes else ""
        passed_over = f"@{skip}" if skip else ""
        to = self._names.prefix, group, payload, self._life(expiry), passed_over, channel
        asked, _ = await self._call(shard, s.ASK, *to, then=partial(_tell_silent, at=1))
        return int(asked)

    async def _group_send(
        self, shard: Shard, group: str, statement: Statement, content: Argument, skip: str, excluded: str
    ) -> GroupSent:
        life, channel = self._context.expiry_ms, self._names.group(group) if self._publishes else ""
        capacity, known = self._capacities.of(group)
        total, elsewhere = [0, 0, 0, 0], list[str]()
        after, asked = _LEAST, boottime()
        while True:
            to = (
                group,
                content,
                life,
                capacity,
                *_lists(known),
                f"@{skip}" if skip else "",
                self._is_spread,
                after,
                channel,
            )
            request = Request(statement, partial(self._group_arguments, to, excluded), then=_tell_silent)
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

    def _group_arguments(self, to: tuple[Argument, ...], excluded: str, link: Link) -> Sequence[Argument]:
        own = self._names.number(self._context.name) if self._publishes and self._context.name else 0
        return (self._names.prefix, *to, own if own and link.hears(of_process(own)) else 0, excluded)


def _lists(capacities: Sequence[str | int]) -> tuple[str, str]:
    """The names and the numbers in name, number, name, number... as lists for a function."""
    return ",".join(map(str, capacities[::2])), ",".join(map(str, capacities[1::2]))


def _tell_silent(link: Link, rows: Rows, at: int = 7) -> None:
    for number in filter(None, rows[0][at].split(",")):
        link.tell(bell(int(number)))
