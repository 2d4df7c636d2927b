"""What senders and receivers do until they are killed, or until the round ends: everything that the layer offers."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import ChannelFull
from hybrid_layer.ipc import IPCChannelLayer
from tests.chaos.actor import Actor
from tests.chaos.arena import OWN_CHANNELS, SEATS, Arena, Doing, Ledger
from tests.chaos.grinder import grind
from tests.chaos.journal import Op, State
from tests.support.probe import leave_all
from tests.support.waiting import any_moment, block_any_moment

JOBS = ["jobs.0", "jobs.1", "jobs.2", "fleeting"]
FLEETING = 3
"""Its messages expire, and its reader reads only now and then."""
GROUPS = ["crowd.0", "crowd.1"]
BRIEF = 0.05
"""Seconds until a message on the fleeting channel expires."""
NOBODY = 0
"""The sender of the last message on each channel: its reader then ends."""


class Layers(NamedTuple):
    """The same segment, with two expiries."""

    usual: IPCChannelLayer
    brief: IPCChannelLayer


def make_layers(prefix: str) -> Layers:
    # Own channels have room for all that may come while their reader gets no processor: a drop would be no finding.
    options: dict[str, Any] = {"prefix": prefix, "capacity": 20_000, "channel_capacity": {"jobs.*": 40, "fleeting": 20}}
    return Layers(IPCChannelLayer(**options), IPCChannelLayer(**options, expiry=BRIEF))


class Seat(NamedTuple):
    """The seat of a worker, and all that it gets."""

    number: int
    incarnation: int
    """Which worker of the run it is; no two have the same."""
    seed: int
    role: str
    chunk: int
    """Whose messages in the ledger, for a grinder."""
    directory: Path


class Worker(Actor):
    def __init__(self, seat: Seat, arena: Arena, layers: Layers) -> None:
        super().__init__(seat, arena)
        self.seat = seat
        self.layers = layers
        self.old_names: list[tuple[int, int, str]] = []

    def doing(self, doing: Doing) -> None:
        self.arena.set_doing(self.seat.number, doing)

    # Sending

    async def send_something(self) -> None:
        number = next(self.numbers)
        message = {"s": self.seat.incarnation, "n": number, "x": _content(number, self._size())}
        kind = self.random.random()
        if kind < 0.25 and (target := self._target()) is not None:
            who, place, name = target
            await self._send(Op.DIRECT, place, who, number, lambda: self.layers.usual.send(name, message))
        elif kind < 0.4:
            place = self.random.randrange(len(GROUPS))
            await self._send(Op.GROUP, place, 0, number, lambda: self.layers.usual.group_send(GROUPS[place], message))
        elif kind < 0.5:
            await self._send(Op.SEND, FLEETING, 0, number, lambda: self.layers.brief.send(JOBS[FLEETING], message))
        else:
            place = self.random.randrange(FLEETING)
            await self._send(Op.SEND, place, 0, number, lambda: self.layers.usual.send(JOBS[place], message))

    async def _send(
        self, op: Op, place: int, who: int, number: int, send: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self.doing(Doing.SENDING_TO_A_GROUP if op == Op.GROUP else Doing.SENDING)
        state = State.DONE
        begun = self.journal.begin(op, place, who, number)
        try:
            await send()
        except ChannelFull:
            state = State.REFUSED
        self.journal.end(begun, op, state, place, who, number)
        self.doing(Doing.WAITING)

    def _size(self) -> int:
        if self.random.random() < 0.03:
            return self.random.randrange(65_000, 200_000)
        return self.random.choice([0, 10, 100, 300, 3000])

    def _target(self) -> tuple[int, int, str] | None:
        """Another worker's own channel; now and then of one that may be dead by now."""
        if self.old_names and self.random.random() < 0.1:
            return self.random.choice(self.old_names)
        incarnation, names = self.arena.names(self.random.randrange(SEATS))
        if not names:
            return None
        place = self.random.randrange(len(names))
        target = (incarnation, place, names[place])
        self.old_names = [*self.old_names[-20:], target]
        return target

    async def keep_sending(self) -> None:
        while self.is_working:
            for _ in range(self.random.randint(1, 12)):
                await self.send_something()
            await any_moment(0.014, self.random)

    # Receiving

    async def read(self, op: Op, place: int, channel: str) -> None:
        """Until the last message."""
        while await self.receive(op, place, channel, self.random.choice([None, None, None, 0.02])) != NOBODY:
            if channel == JOBS[FLEETING] and self.is_working:
                await any_moment(4 * BRIEF, self.random)

    async def receive(self, op: Op, place: int, channel: str, seconds: float | None) -> int | None:
        """Whose message came; None if none came within the time."""
        begun = self.journal.begin(op, place)
        try:
            async with asyncio.timeout(seconds):
                message = await self.layers.usual.receive(channel)
        except TimeoutError:
            self.journal.end(begun, op, State.CANCELLED, place)
            return None
        sender, number = message["s"], message["n"]
        self.journal.end(begun, op, State.DONE, place, sender, number)
        if message["x"] != _content(number, len(message["x"])):
            raise AssertionError(f"message {number} of {sender} is not whole")
        return int(sender)

    # Groups

    async def open_own(self) -> None:
        for place in range(OWN_CHANNELS):
            begun = self.journal.begin(Op.OPEN, place)
            self.own.append(await self.layers.usual.new_channel())
            self.journal.end(begun, Op.OPEN, State.DONE, place)
        self.arena.set_names(self.seat.number, self.seat.incarnation, self.own)

    async def join_and_leave(self) -> None:
        joined: set[tuple[int, int]] = set()
        while self.is_working:
            group, own = self.random.randrange(len(GROUPS)), self.random.randrange(OWN_CHANNELS)
            op = Op.LEAVE if (group, own) in joined else Op.JOIN
            change = self.layers.usual.group_discard if op == Op.LEAVE else self.layers.usual.group_add
            self.doing(Doing.JOINING_AND_LEAVING)
            begun = self.journal.begin(op, group, own)
            await change(GROUPS[group], self.own[own])
            self.journal.end(begun, op, State.DONE, group, own)
            self.doing(Doing.WAITING)
            joined ^= {(group, own)}
            await any_moment(0.05, self.random)

    # Roles

    async def web(self) -> None:
        """Own channels in groups, and sends to all members."""
        await self.open_own()
        reading = [self.read(Op.OWN, place, name) for place, name in enumerate(self.own)]

        async def send() -> None:
            await asyncio.gather(self.keep_sending(), self.join_and_leave())
            self.arena.set_finished(self.seat.number)

        await asyncio.gather(send(), *reading)

    async def reader(self) -> None:
        """Competes for the normal channels."""
        self.doing(Doing.WAITING)
        self.arena.set_finished(self.seat.number)
        await asyncio.gather(*(self.read(Op.RECEIVE, place, channel) for place, channel in enumerate(JOBS)))

    def pusher(self) -> None:
        """Code without an event loop."""
        while self.is_working:
            for _ in range(self.random.randint(1, 3)):
                async_to_sync(self.send_something)()
            if self.random.random() < 0.3:
                place = self.random.randrange(FLEETING)
                async_to_sync(self.receive)(Op.RECEIVE, place, JOBS[place], 0.02)
            block_any_moment(0.01, self.random)
        self.arena.set_finished(self.seat.number)

    def run(self) -> None:
        if self.seat.role == "grinder":
            self.doing(Doing.GRINDING)
            ledger = Ledger(self.seat.directory)
            grind(self.layers.usual, ledger, self.seat.chunk, self.random, lambda: self.is_working)
            self.arena.set_finished(self.seat.number)
        elif self.seat.role == "pusher":
            self.pusher()
        else:
            main = self.web if self.seat.role == "web" else self.reader
            with asyncio.Runner(
                loop_factory=self.random.choice([asyncio.new_event_loop, uvloop.new_event_loop])
            ) as runner:
                runner.run(main())


def work(seat: Seat, arena: Arena, layers: Layers | None, prefix: str) -> None:
    """In a forked process: work until the end of the round, and write only to the journal. Does not return."""
    code = 1
    try:
        logging.getLogger("hybrid_layer").addHandler(_Complaints(seat))
        worker = Worker(seat, arena, layers or make_layers(prefix))
        worker.run()
        worker.doing(Doing.LEAVING)
        if worker.random.random() < 0.5:
            leave_all()  # in order; else as a crash does
        code = 0
    except BaseException:  # noqa: BLE001  # whatever it is, the judge is told
        complain(seat.directory, seat.incarnation, traceback.format_exc())
    finally:
        os._exit(code)


class _Complaints(logging.Handler):
    """A warning is a finding, but for the one that two kinds of channels are meant to cause."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(logging.WARNING)
        self._seat = seat

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not text.startswith((f"Messages on {JOBS[FLEETING]} expired", "Messages on litter.")):
            complain(self._seat.directory, self._seat.incarnation, text)


def complain(directory: Path, incarnation: int, text: str) -> None:
    """Report to the judge."""
    with (directory / f"{incarnation}.complaint").open("a") as file:
        file.write(f"{text}\n")


def _content(number: int, size: int) -> bytes:
    return bytes([number & 255]) * size
