"""Words of the tests of machines and their streams: what a server would say, and what a reader does with it."""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.ipc.machine import LocalMachine
from hybrid_layer.transport import Arrival, Position, Renewed, Taken, View
from tests.support.probe import probe

SHARD = 3
RUN, INCARNATION, REGISTRATION = 77, 5, 1 << 40 | 9
LIFE = 60.0


def machine_of(layer: IPCChannelLayer) -> LocalMachine:
    return LocalMachine(probe(layer).local, keeps=lambda channel: not channel.startswith("elsewhere"))


def answer(last: int, flushes: int = 1, registration: int = REGISTRATION, **others: Any) -> Renewed:
    """A server's, whose stream's last id is `last`."""
    return Renewed(RUN, Position(last, 0), INCARNATION, flushes, registration)._replace(**others)


async def begun(machine: LocalMachine, last: int = 10, shard: int = SHARD) -> View:
    """The position is the end of the stream; a view of that."""
    await machine.renewed(shard, await machine.look(shard), answer(last))
    return await machine.look(shard)


def entry(id: int, kind: Any = "direct", flushes: int = 1, **others: Any) -> Arrival:
    return Arrival(Position(id, 0), INCARNATION, flushes, kind, payload=b"%d" % id, life=LIFE)._replace(**others)


async def put(machine: LocalMachine, view: View, arrival: Arrival) -> Taken:
    return await machine.put(SHARD, view, arrival)


async def position(machine: LocalMachine) -> int | None:
    found = (await machine.look(SHARD)).position
    return None if found is None else found.ms


async def taken(layer: IPCChannelLayer, channel: str) -> bytes:
    """The payload of the channel's next message."""
    async with asyncio.timeout(5):
        payload: bytes = await probe(layer).local.receive(channel)
        return payload


async def next_of(layer: IPCChannelLayer, channel: str) -> bytes:
    """The payload of what comes next there. Something does: it is sent now."""
    await probe(layer).local.send(channel, b"last")
    return await taken(layer, channel)
