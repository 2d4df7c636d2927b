# SPDX-License-Identifier: BSD-3-Clause
"""Sending to queues and groups, one message or several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hybrid_layer.clock import boottime
from hybrid_layer.names import machine_of
from hybrid_layer.remote.delivery.capacities import Capacities
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import GroupSent, Outcome, Sent, SeveralSent
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.postgres import statements as s
from hybrid_layer.remote.postgres.calls import Rows
from hybrid_layer.remote.postgres.connections import Connections, Request
from hybrid_layer.remote.postgres.heads import Heads
from hybrid_layer.remote.postgres.hosts import Host
from hybrid_layer.remote.postgres.link import Link
from hybrid_layer.remote.postgres.names import Names, bell, of_process
from hybrid_layer.remote.postgres.statements import Argument, Statement
from hybrid_layer.transport import Excluded

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_NO_EPOCH = 3
_LEAST = -(2**63)
_ROOM_WITHIN = 0.02
"""Seconds after which a process that was told has removed what it has taken over."""


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
        self._heads = [Heads() for _ in hosts]

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
        outcome, expired, _ = await self._send(shard, channel, (payload,), capacity, expiry)
        return Sent(outcome, expired)

    async def send_multiple(self, shard: Shard, channel: str, payloads: Sequence[bytes], capacity: int) -> SeveralSent:
        return await self._send(shard, channel, tuple(payloads), capacity, None)

    async def _send(
        self, shard: Shard, channel: str, payloads: tuple[bytes, ...], capacity: int, expiry: float | None
    ) -> SeveralSent:
        addressee, queue, number = self._names.way(channel)
        to, limits = (self._names.prefix, addressee, queue, number, channel), (capacity, self._life(expiry))
        rings, heard = self._rings(number, 2), bell(number) if addressee else ""
        expired_in_all, stored, may_wait = 0, 0, bool(addressee) and not machine_of(channel)
        while True:
            asked = boottime()
            arguments = partial(self._send_arguments, shard, (*to, payloads[stored:], *limits), heard)
            request = Request(s.SEND, arguments, number, rings)
            ((outcome, expired, rang, epoch, now, done, *hint),) = await self.connections.run(shard.number, request)
            if outcome == _NO_EPOCH:
                # An epoch existed before the name of a process did.
                await self._call(shard, s.BEGIN_EPOCH, self._names.prefix, bool(addressee))
                continue
            self._learn(shard, epoch, now, asked)
            self._heads[shard.number].note(queue, epoch, *hint)
            expired_in_all += expired
            stored += done
            if outcome == Outcome.FULL.value and rang and may_wait:  # a process was told that room is wanted
                may_wait = False
                await asyncio.sleep(_ROOM_WITHIN)
                continue
            return SeveralSent(_OUTCOMES[outcome], expired_in_all, stored)

    def _send_arguments(self, shard: Shard, to: tuple[Argument, ...], heard: str, link: Link) -> Sequence[Argument]:
        return (*to, link.hears(heard), *self._heads[shard.number].of(str(to[2])))

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
        own = self._names.number(self._context.name) if self._context.name else 0
        hears = link.hears(of_process(own) if self._publishes else bell(own))
        return (self._names.prefix, *to, own if hears else 0, excluded)


def _lists(capacities: Sequence[str | int]) -> tuple[str, str]:
    """The names and the numbers in name, number, name, number... as lists for a function."""
    return ",".join(map(str, capacities[::2])), ",".join(map(str, capacities[1::2]))


def _tell_silent(link: Link, rows: Rows, at: int = 7) -> None:
    for number in filter(None, rows[0][at].split(",")):
        link.tell(bell(int(number)))
