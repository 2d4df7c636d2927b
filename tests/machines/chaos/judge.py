"""Compares what all workers of a run have written down, and names each broken promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.chaos.journal import Op, State
from tests.chaos.judge import complaints, first, lost_jobs, members_of, wrong_receipts
from tests.chaos.report import Report as LocalReport
from tests.chaos.testimony import NEVER, Receipt, Sent, Testimony
from tests.machines.chaos.workers import MACHINES, SHARED, Seat, work_place
from tests.support.processes import Process

UNREAD = 1.5
"""Seconds that a message lies on a server at most until its reader, which is not stopped, has read it."""
ARRIVES = 3.0
"""Seconds that a message may be on its way to another machine, whose reader has just been killed."""
BACK = 2.0
"""Seconds after a server's return until everything works, on a busy machine."""
HEALED = 6.0
"""The same after a machine was cut off. Its last connections may be read from until they are given up."""

LONGEST_PAUSE = 1.2
"""Seconds, by machine, until a message that was sent is read, even if the machine's reader was killed or stopped."""
LONGEST_WITH_LOCK = 3.0
"""The same after the segment was replaced, and where a stopped process holds its lock."""

POPPED = 1
"""Messages of a normal channel that a process which is killed had taken."""


@dataclass(eq=False)
class Life:
    """One worker's life."""

    seat: Seat
    process: Process
    killed: tuple[float, float] | None = None
    """When it still lived, and when it was dead; None: it ended in order."""
    stops: list[list[float]] = field(default_factory=list)
    """Begin and end of each time in which it was stopped."""

    def __str__(self) -> str:
        return f"worker {self.seat.incarnation} of machine {self.seat.machine}"


@dataclass
class Report:
    """What was found, and figures."""

    found: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)


class Outage(NamedTuple):
    """When a server was killed and when it answered again, or when a machine was cut off and connected again."""

    begin: float
    end: float
    machine: int | None = None
    """None: a server, which concerns all machines."""


Outages = list[Outage]


def judge(directory: Path, lives: list[Life], outages: Outages, servers: int, locality: str) -> Report:
    """What is wrong, each with its culprit; the first few of a kind.

    A process that is killed may have one entry of each server in work, for its whole machine.
    """
    testimony = Testimony(directory, lives)  # type: ignore[arg-type]  # a life has what it asks for
    report = Report()
    way = partial(_way, testimony, servers, locality == "machine")
    for sent in testimony.sends.values():
        report.figures[f"sent: {sent.op.name.lower()}, {sent.state.name.lower()}"] += 1
    report.figures["received"] = len(testimony.receipts)
    jobs = LocalReport()
    judgements = (
        complaints(directory),
        wrong_receipts(testimony, partial(_is_addressee, locality == "machine"), _queue, partial(_strand, way)),
        lost_jobs(testimony, jobs),
        _lost_own(testimony, way, outages, report, servers if locality == "machine" else 0),
        _lost_work(testimony, outages, report, servers),
        _pauses(testimony, outages, report) if locality == "machine" else iter(()),
    )
    report.found = [text for judgement in judgements for text in first(judgement)]
    report.figures += jobs.lost
    return report


def _queue(sent: Sent, receipt: Receipt) -> tuple[int, ...]:
    reader = receipt.reader if receipt.op == Op.OWN else 0  # one of any that read a normal channel
    return reader, receipt.place


def _strand(way: Way, sent: Sent, receipt: Receipt) -> tuple[int, ...] | None:
    if receipt.op == Op.RECEIVE and sent.op != Op.GROUP:
        return receipt.reader, receipt.op, receipt.place, sent.sender, sent.op, 0
    return receipt.reader, receipt.op, receipt.place, *way(sent, receipt.reader)


Way = Callable[[Sent, int], tuple[int, ...]]
"""What of a message stays in order on its way to a channel of a process."""


def _way(testimony: Testimony, servers: int, by_machine: bool, sent: Sent, reader: int) -> tuple[int, ...]:
    """With several servers, what is sent directly, or by a group, which may be on another one.

    All that stays within a machine's memory is in order.
    """
    is_within = by_machine and _machine(testimony, sent.sender) == _machine(testimony, reader)
    if servers == 1 or is_within:
        return (sent.sender,)
    return sent.sender, sent.op, sent.place if sent.op == Op.GROUP else 0


def _machine(testimony: Testimony, worker: int) -> int:
    machine: int = testimony.lives[worker].seat.machine
    return machine


def _is_addressee(by_machine: bool, testimony: Testimony, sent: Sent, receipt: Receipt) -> bool:
    if sent.op == Op.GROUP and receipt.op == Op.RECEIVE:
        return sent.place == SHARED and receipt.place in map(work_place, range(MACHINES))
    if sent.op == Op.SEND:
        return receipt.op == Op.RECEIVE and receipt.place == sent.place
    if sent.op == Op.DIRECT:
        return (Op.OWN, receipt.reader, receipt.place) == (receipt.op, sent.who, sent.place)
    # What was cut off on its way to the server may get there later, even when its sender is dead.
    end = sent.end if sent.state == State.DONE else NEVER
    if by_machine and _machine(testimony, sent.sender) != _machine(testimony, receipt.reader):
        end = receipt.end  # the targets are those of its arrival
    return any(
        (Op.OWN, member.reader, member.own) == (receipt.op, receipt.reader, receipt.place)
        and member.joining <= end
        and sent.begin <= member.left
        for member in testimony.groups[sent.place]
    )


# Losses


def _is_excused(sent: Sent, life: Life, outages: Outages) -> bool:
    """Whether a server or its machine was away then, or soon afterwards, or has just come back.

    What came to a stopped process was unread still when that happened.
    """
    for each in outages:
        if each.machine in (None, life.seat.machine):
            stops = [begin for begin, end in life.stops if begin <= each.begin <= end + UNREAD]
            until = each.end + (BACK if each.machine is None else HEALED)
            if min([each.begin, *stops]) - UNREAD <= sent.end and sent.begin <= until:
                return True
    return False


def _lost_own(testimony: Testimony, way: Way, outages: Outages, report: Report, held: int) -> Iterator[str]:
    """What was sent to a process, or to a group of which it was a member.

    `held`: how many entries for the machine a process may have in work, when it is killed.
    """
    got: set[tuple[int, ...]] = set()
    last: dict[tuple[int, ...], int] = {}
    lost: dict[int, set[Sent]] = {machine: set() for machine in range(MACHINES)}
    for receipt in testimony.receipts:
        if receipt.op == Op.OWN and (sent := testimony.sends.get((receipt.sender, receipt.number))):
            got.add((receipt.reader, receipt.place, sent.sender, sent.number))
            last[receipt.reader, receipt.place, *way(sent, receipt.reader)] = sent.number
    for sent, reader, own in _to_own(testimony, ARRIVES if held else 0.0):
        life = testimony.lives[reader]
        report.figures["due to a process"] += 1
        report.figures["due to a process, without an outage then"] += not _is_excused(sent, life, outages)
        if (reader, own, sent.sender, sent.number) in got:
            continue
        if life.killed is not None and last.get((reader, own, *way(sent, reader)), 0) < sent.number:
            report.figures["lost with a killed process"] += 1
        elif _is_excused(sent, life, outages):
            report.figures["lost with a server, or in a cut"] += 1
        elif held and _machine(testimony, sent.sender) != life.seat.machine:
            lost[life.seat.machine].add(sent)
        else:
            yield f"{sent} is lost for {life}, which lived, or has got later ones"
    for machine, each in lost.items():
        yield from _beyond_kills(testimony, machine, list(each), held, report)


def _to_own(testimony: Testimony, travels: float) -> Iterator[tuple[Sent, int, int]]:
    """Each message with each process and own channel that should get it.

    `travels`: seconds that a message may be on its way to another machine. Its targets are those of its arrival.
    """
    for sent in testimony.sends.values():
        if sent.op == Op.DIRECT and sent.state == State.DONE:
            yield sent, sent.who, sent.place
    for place, memberships in testimony.groups.items():
        sends = [sent for sent in testimony.sends.values() if sent.op == Op.GROUP and sent.place == place]
        for sent, member in members_of(sends, memberships):
            is_near = _machine(testimony, sent.sender) == _machine(testimony, member.reader)
            if is_near or member.leaving >= sent.end + travels:
                yield sent, member.reader, member.own


def _lost_work(testimony: Testimony, outages: Outages, report: Report, held: int) -> Iterator[str]:
    """What was sent to the group of which a normal channel of each machine is a member."""
    got = {(each.place, each.sender, each.number) for each in testimony.receipts if each.op == Op.RECEIVE}
    wanted = (Op.GROUP, SHARED, State.DONE)
    sends = [sent for sent in testimony.sends.values() if (sent.op, sent.place, sent.state) == wanted]
    for machine in range(MACHINES):
        lost = [sent for sent in sends if (work_place(machine), sent.sender, sent.number) not in got]
        there = [life for life in testimony.lives.values() if life.seat.machine == machine]
        lost = [sent for sent in lost if not any(_is_excused(sent, life, outages) for life in there)]
        yield from _beyond_kills(testimony, machine, lost, held + POPPED, report)


def _beyond_kills(testimony: Testimony, machine: int, lost: list[Sent], held: int, report: Report) -> Iterator[str]:
    """Of the messages that are `lost` for a machine, more than the processes that were killed there had in work."""
    report.figures["lost for a machine, with a killed process"] += len(lost)
    there = [life for life in testimony.lives.values() if life.seat.machine == machine]
    kills = [life.killed for life in there if life.killed]
    if len(lost) > held * len(kills):
        yield f"{len(lost)} messages are lost for machine {machine}, and {len(kills)} processes were killed there"
    for sent in lost:
        if not any(sent.begin <= dead and alive <= sent.end + UNREAD for alive, dead in kills):
            yield f"{sent} is lost for machine {machine}, and no process was killed there then"


# Pauses


def _pauses(testimony: Testimony, outages: Outages, report: Report) -> Iterator[str]:
    """Messages from another machine that a process waited for too long, though they had been sent.

    Without what a pause of its own, an outage, or other work on the processors explains.
    """
    waits = [(step.begin, step.end, step.delay) for step in testimony.steps if step.delay > 0.01]
    waits += [(each.begin, each.end, each.delay) for each in testimony.receipts if each.delay > 0.01]
    figures = report.figures
    for receipt in testimony.receipts:
        sent = testimony.sends.get((receipt.sender, receipt.number))
        life = testimony.lives[receipt.reader]
        if receipt.op != Op.OWN or sent is None or sent.state != State.DONE or _is_excused(sent, life, outages):
            continue
        if _machine(testimony, sent.sender) == life.seat.machine:
            continue
        begin = max(receipt.begin, sent.end)
        pause = receipt.end - begin - receipt.delay
        figures["longest wait across machines, ms"] = max(figures["longest wait across machines, ms"], int(pause * 1e3))
        if pause <= LONGEST_PAUSE or any(since < receipt.end and until > begin for since, until in life.stops):
            continue
        # The reader of the stream waited for a processor, too: for no longer than somebody else did then.
        pause -= max((wait for since, until, wait in waits if since < receipt.end and until > begin), default=0.0)
        if pause > LONGEST_WITH_LOCK:
            yield f"{receipt} came {receipt.end - begin:.2f} s late: {sent}"
        figures[f"waits across machines longer than {LONGEST_PAUSE} s"] += pause > LONGEST_PAUSE
