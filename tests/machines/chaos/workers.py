"""What the processes do until they are killed, or until the round ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import ChannelFull, RemoteUnavailable, SegmentBusy, SegmentDamaged
from tests.chaos.actor import Actor
from tests.chaos.arena import OWN_CHANNELS, Arena
from tests.chaos.journal import Op, State
from tests.chaos.workers import complain
from tests.support.process_main import Parent
from tests.support.waiting import any_moment, cancelled, succeeds, wait_until

MACHINES = 3
WORKERS = 4
"""On each machine."""
JOBS = 2
"""Normal channels of each machine."""
GROUPS = ["crowd.0", "crowd.1"]
SHARED = 0
"""The group that has a normal channel of each machine as a member."""
WORK = "work"
"""That channel."""
_PATIENCE = 30.0
_FINDINGS = ("undecodable", "errors", "damaged", "slow", "expired")
"""Counters that should stay at 0: nothing here is meant to cause them."""


class Seat(NamedTuple):
    """The seat of a worker, and all that it gets."""

    number: int
    incarnation: int
    """Which worker of the run it is; no two have the same."""
    seed: int
    directory: Path
    role: str = "worker"

    @property
    def machine(self) -> int:
        return self.number // WORKERS


def jobs_place(machine: int, n: int) -> int:
    """The number of the normal channel `jobs.n` of a machine, in journals."""
    return 100 * (machine + 1) + n


def work_place(machine: int) -> int:
    """The same for WORK."""
    return 100 * (machine + 1) + JOBS


class Worker(Actor):
    def __init__(self, seat: Seat, arena: Arena, layer: HybridChannelLayer) -> None:
        super().__init__(seat, arena)
        self.seat = seat
        self.layer = layer

    async def run(self, parent: Parent) -> None:
        for place in range(OWN_CHANNELS):
            begun = self.journal.begin(Op.OPEN, place)
            self.own.append(await self._patiently(self.layer.new_channel))
            self.journal.end(begun, Op.OPEN, State.DONE, place)
        await self._patiently(partial(self.layer.group_add, GROUPS[SHARED], WORK))
        reading = [asyncio.create_task(self.read(Op.OWN, place, name)) for place, name in enumerate(self.own)]
        machine = self.seat.machine
        reading += [
            asyncio.create_task(self.read(Op.RECEIVE, jobs_place(machine, n), f"jobs.{n}")) for n in range(JOBS)
        ]
        reading.append(asyncio.create_task(self.read(Op.RECEIVE, work_place(machine), WORK)))
        self.arena.set_names(self.seat.number, self.seat.incarnation, self.own)
        await wait_until(self._all_machines_are_there, "all machines are members", _PATIENCE)
        await asyncio.gather(self.keep_sending(), self.join_and_leave())
        self.arena.set_finished(self.seat.number)
        await asyncio.to_thread(parent.receive)
        await cancelled(*reading)
        for task in reading:
            if not task.cancelled():
                task.result()  # raises
        counted = await self.layer.statistics()
        for name in _FINDINGS:
            if counted.get(name):
                complain(self.seat.directory, self.seat.incarnation, f"{counted[name]} {name}")
        await self.layer.close()

    def _all_machines_are_there(self) -> bool:
        """Whether the first worker of each, which is never killed, has come so far."""
        return all(self.arena.names(machine * WORKERS)[1] for machine in range(MACHINES))

    # Sending

    async def keep_sending(self) -> None:
        while self.is_working:
            for _ in range(self.random.randint(1, 6)):
                await self.send_something()
            await any_moment(0.08, self.random)

    async def send_something(self) -> None:
        number = next(self.numbers)
        message = {
            "s": self.seat.incarnation,
            "n": number,
            "x": _content(number, self.random.choice([0, 10, 300, 9000])),
        }
        kind = self.random.random()
        if kind < 0.35:
            incarnation, names = self.arena.names(self.random.randrange(MACHINES * WORKERS))
            if names:
                place = self.random.randrange(len(names))
                send = partial(self.layer.send, names[place], message)
                await self._send(Op.DIRECT, place, incarnation, number, send)
        elif kind < 0.7:
            place = self.random.randrange(len(GROUPS))
            await self._send(Op.GROUP, place, 0, number, partial(self.layer.group_send, GROUPS[place], message))
        else:
            n = self.random.randrange(JOBS)
            send = partial(self.layer.send, f"jobs.{n}", message)
            await self._send(Op.SEND, jobs_place(self.seat.machine, n), 0, number, send)

    async def _send(self, op: Op, place: int, who: int, number: int, send: Callable[[], Awaitable[None]]) -> None:
        state = State.DONE
        begun = self.journal.begin(op, place, who, number)
        try:
            await send()
        except ChannelFull:
            state = State.REFUSED
        except (RemoteUnavailable, SegmentDamaged):
            state = State.UNCERTAIN
        except SegmentBusy:  # its lock was held by a process that is stopped; a group's members elsewhere got it
            state = State.UNCERTAIN if op == Op.GROUP else State.REFUSED
        self.journal.end(begun, op, state, place, who, number)

    async def join_and_leave(self) -> None:
        joined: set[tuple[int, int]] = set()
        while self.is_working:
            group, own = self.random.randrange(len(GROUPS)), self.random.randrange(OWN_CHANNELS)
            op = Op.LEAVE if (group, own) in joined else Op.JOIN
            change = self.layer.group_discard if op == Op.LEAVE else self.layer.group_add
            begun = self.journal.begin(op, group, own)
            await self._patiently(partial(change, GROUPS[group], self.own[own]))
            self.journal.end(begun, op, State.DONE, group, own)
            joined ^= {(group, own)}
            await any_moment(0.5, self.random)

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await succeeds(call, RemoteUnavailable, SegmentBusy, seconds=_PATIENCE)

    # Receiving

    async def read(self, op: Op, place: int, channel: str) -> None:
        while True:
            await self.receive(op, place, channel, self.random.choice([None, None, None, 0.02]))

    async def receive(self, op: Op, place: int, channel: str, seconds: float | None) -> None:
        begun = self.journal.begin(op, place)
        try:
            async with asyncio.timeout(seconds):
                message = await self.layer.receive(channel)
        except (TimeoutError, asyncio.CancelledError) as error:
            self.journal.end(begun, op, State.CANCELLED, place)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        sender, number = message["s"], message["n"]
        self.journal.end(begun, op, State.DONE, place, sender, number)
        if message["x"] != _content(number, len(message["x"])):
            raise AssertionError(f"message {number} of {sender} is not whole")


async def work(parent: Parent, seat: Seat, arena: Path, options: dict[str, Any]) -> None:
    """A worker's process."""
    logger = logging.getLogger("hybrid_layer")
    logger.propagate = False
    logger.addHandler(_Errors(seat))
    await Worker(seat, Arena(arena), HybridChannelLayer(**options)).run(parent)


class _Errors(logging.Handler):
    """An error is a finding. Warnings are not: servers go away here."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(logging.ERROR)
        self._seat = seat

    def emit(self, record: logging.LogRecord) -> None:
        complain(self._seat.directory, self._seat.incarnation, self.format(record))


def _content(number: int, size: int) -> bytes:
    return bytes([number & 255]) * size
