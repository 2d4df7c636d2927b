"""What all journals of a round say together: sends, receipts, memberships, and receives that death cut short."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from tests.chaos.journal import Op, Record, State, read_journal
from tests.chaos.life import Life

NEVER = math.inf
_SENDS = (Op.SEND, Op.DIRECT, Op.GROUP)


class Sent(NamedTuple):
    """One send. It took effect, if it did, between `begin` and `end`."""

    sender: int
    number: int
    op: Op
    place: int
    who: int
    state: State
    """BEGUN: its process was killed before it was done."""
    begin: float
    end: float


class Receipt(NamedTuple):
    reader: int
    op: Op
    place: int
    sender: int
    number: int
    begin: float
    end: float
    delay: float
    """Seconds in which there was no processor for it."""


class Membership(NamedTuple):
    """It began between the first two, and ended between the last two."""

    reader: int
    own: int
    joining: float
    joined: float
    leaving: float
    left: float


class Open(NamedTuple):
    """A receive from a normal channel whose process was killed in it; it may have held one message."""

    place: int
    begin: float
    end: float


class Step(NamedTuple):
    """An operation from its begin to its end; `delay` as in `Receipt`."""

    life: Life
    op: Op
    begin: float
    end: float
    delay: float


class Testimony:
    def __init__(self, directory: Path, lives: list[Life]) -> None:
        self.lives = {life.seat.incarnation: life for life in lives}
        self.sends: dict[tuple[int, int], Sent] = {}
        self.receipts: list[Receipt] = []
        self.groups: dict[int, list[Membership]] = defaultdict(list)
        self.open: list[Open] = []
        self.steps: list[Step] = []
        self.unfinished: list[tuple[Life, Record]] = []
        """The operations that the dead were in the middle of."""
        for life in lives:
            self._hear(life, directory)

    def _hear(self, life: Life, directory: Path) -> None:
        me = life.seat.incarnation
        begun: dict[tuple[int, int, int], Record] = {}
        joined: dict[tuple[int, int], Record] = {}
        for record in read_journal(directory, me):
            op, state = Op(record.op), State(record.state)
            # A worker has one send at a time, one change of a membership, and one receive for each channel.
            key = (op, record.place, 0) if op in (Op.RECEIVE, Op.OWN) else (op, record.place, record.who)
            if state == State.BEGUN:
                begun[key] = record
                continue
            first = begun.pop(key)
            if op in _SENDS:
                self._add_sent(me, first, state, record.end)
            elif op in (Op.RECEIVE, Op.OWN) and state == State.DONE and record.who:
                self.receipts.append(Receipt(me, op, *record[2:5], first.begin, record.end, record.delay / 1e6))
            elif op == Op.JOIN:
                joined[record.place, record.who] = first._replace(end=record.end)
            elif op == Op.LEAVE:
                join = joined.pop((record.place, record.who))
                self._add_membership(me, join, first.begin, record.end)
            if op not in (Op.RECEIVE, Op.OWN):
                self.steps.append(Step(life, op, record.begin, record.end, record.delay / 1e6))
        self._hear_of_the_end(life, begun, joined)

    def _hear_of_the_end(
        self, life: Life, begun: dict[tuple[int, int, int], Record], joined: dict[tuple[int, int], Record]
    ) -> None:
        me = life.seat.incarnation
        lived, dead = life.killed or (NEVER, NEVER)
        for first in begun.values():
            op = Op(first.op)
            self.unfinished.append((life, first))
            if op in _SENDS:
                self._add_sent(me, first, State.BEGUN, dead)
            elif op == Op.RECEIVE and life.killed is not None:
                self.open.append(Open(first.place, first.begin, dead))
            elif op == Op.JOIN:
                self._add_membership(me, first._replace(end=NEVER), lived, dead)
            elif op == Op.LEAVE:
                self._add_membership(me, joined.pop((first.place, first.who)), first.begin, dead)
        for join in joined.values():
            self._add_membership(me, join, lived, dead)

    def _add_sent(self, sender: int, first: Record, state: State, end: float) -> None:
        self.sends[sender, first.number] = Sent(
            sender, first.number, Op(first.op), first.place, first.who, state, first.begin, end
        )

    def _add_membership(self, reader: int, join: Record, leaving: float, left: float) -> None:
        self.groups[join.place].append(Membership(reader, join.who, join.begin, join.end, leaving, left))
