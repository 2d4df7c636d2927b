"""Compares what all workers of a round have written down, and names each broken promise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.arena import CHUNK, Ledger
from tests.chaos.journal import Op, State
from tests.chaos.life import Life
from tests.chaos.report import Report
from tests.chaos.testimony import Membership, Receipt, Sent, Testimony
from tests.chaos.workers import BRIEF, FLEETING

LONGEST_PAUSE = 1.0
UNFINISHED = 5.0
"""Seconds that a killed process may have been in an operation; its waits for a processor are not known."""
_SHOWN = 5


def judge(directory: Path, lives: list[Life], ledger: Ledger, report: Report) -> list[str]:
    """What is wrong, each with its culprit; the first few of a kind."""
    testimony = Testimony(directory, lives)
    report.sent += sum(sent.state == State.DONE for sent in testimony.sends.values())
    report.refused += sum(sent.state == State.REFUSED for sent in testimony.sends.values())
    report.in_flight += sum(sent.state == State.BEGUN for sent in testimony.sends.values())
    report.received += len(testimony.receipts)
    judgements = (
        complaints(directory),
        wrong_receipts(testimony, _is_addressee, _queue, _strand),
        _late(testimony),
        lost_jobs(testimony, report),
        _lost_direct(testimony, report),
        _groups(testimony, report),
        _pauses(testimony, report),
        _ground(lives, ledger, report),
    )
    return [text for judgement in judgements for text in first(judgement)]


def first(found: Iterator[str]) -> list[str]:
    """The first few of a kind."""
    texts = list(found)
    return [*texts[:_SHOWN], f"... and {len(texts) - _SHOWN} more like it"] if len(texts) > _SHOWN else texts


def complaints(directory: Path) -> Iterator[str]:
    """What workers have reported themselves."""
    for path in sorted(directory.glob("*.complaint")):
        yield f"worker {path.stem}: {path.read_text()}"


def wrong_receipts(
    testimony: Testimony,
    is_addressee: Callable[[Testimony, Sent, Receipt], bool],
    queue: Callable[[Sent, Receipt], tuple[int, ...]],
    strand: Callable[[Sent, Receipt], tuple[int, ...] | None],
) -> Iterator[str]:
    """Messages that were never sent, or came twice, to another receiver, or out of order.

    From one `queue` a message comes once. What has the same `strand`, unless it is None, comes in order.
    """
    taken: set[tuple[int, ...]] = set()
    last: dict[tuple[int, ...], int] = {}
    for receipt in testimony.receipts:
        sent = testimony.sends.get((receipt.sender, receipt.number))
        if sent is None or sent.state == State.REFUSED:
            yield f"{receipt}: nobody has sent that; {sent}"
            continue
        if not is_addressee(testimony, sent, receipt):
            yield f"{receipt}: it was for somebody else: {sent}"
        message = (*queue(sent, receipt), sent.sender, sent.number)
        if message in taken:
            yield f"{receipt}: a duplicate of {sent}"
        taken.add(message)
        if (one := strand(sent, receipt)) is not None:
            if last.get(one, 0) >= sent.number:
                yield f"{receipt}: came after {last[one]} of the same sender"
            last[one] = sent.number


def _queue(sent: Sent, receipt: Receipt) -> tuple[int, ...]:
    return (0, 0) if sent.op == Op.SEND else (receipt.reader, receipt.place)


def _strand(sent: Sent, receipt: Receipt) -> tuple[int, ...]:
    return receipt.reader, receipt.op, receipt.place, sent.sender


def _late(testimony: Testimony) -> Iterator[str]:
    """Messages that had expired."""
    for receipt in testimony.receipts:
        sent = testimony.sends.get((receipt.sender, receipt.number))
        if sent is not None and _is_fleeting(sent) and receipt.begin > sent.end + BRIEF:
            yield f"{receipt}: had expired: {sent}"


def _is_addressee(testimony: Testimony, sent: Sent, receipt: Receipt) -> bool:
    if sent.op == Op.SEND:
        return receipt.op == Op.RECEIVE and receipt.place == sent.place
    if receipt.op != Op.OWN:
        return False
    if sent.op == Op.DIRECT:
        return (receipt.reader, receipt.place) == (sent.who, sent.place)
    return any(
        (member.reader, member.own) == (receipt.reader, receipt.place)
        and member.joining <= sent.end
        and sent.begin <= member.left
        for member in testimony.groups[sent.place]
    )


def _is_fleeting(sent: Sent) -> bool:
    return sent.op == Op.SEND and sent.place == FLEETING


# Losses


def lost_jobs(testimony: Testimony, report: Report) -> Iterator[str]:
    """Each message that no process got must have been held by a process that was killed then; each held one."""
    lost: dict[int, list[tuple[Sent, float]]] = defaultdict(list)
    read = {(receipt.sender, receipt.number): receipt.end for receipt in testimony.receipts}
    # From the last to the first: when was the next one of the same sender and channel taken out, before which it went?
    next_read: dict[tuple[int, int], float] = {}
    for sent in sorted(testimony.sends.values(), key=lambda sent: -sent.number):
        if sent.op != Op.SEND or sent.state == State.REFUSED:
            continue
        strand = (sent.sender, sent.place)
        if (sent.sender, sent.number) in read:
            next_read[strand] = read[sent.sender, sent.number]
        elif sent.state == State.DONE:
            until = next_read.get(strand, float("inf"))
            if _is_fleeting(sent) and until >= sent.begin + BRIEF:
                report.expired += 1
            else:
                lost[sent.place].append((sent, until))
    for place, messages in lost.items():
        holders = [(held.begin, held.end) for held in testimony.open if held.place == place]
        unmatched = _unmatched([(sent.begin, until) for sent, until in messages], holders)
        report.lost["in the hands of a killed reader"] += len(messages) - len(unmatched)
        for index in unmatched:
            yield f"{messages[index][0]} is lost, and no reader was killed that could have had it"


def _unmatched(messages: list[tuple[float, float]], holders: list[tuple[float, float]]) -> list[int]:
    """Which intervals of `messages` get no overlapping one of `holders` of their own, in the best assignment."""
    holder_of: dict[int, int] = {}

    def assign(message: int, tried: set[int]) -> bool:
        begin, end = messages[message]
        for holder, (since, until) in enumerate(holders):
            if holder in tried or since > end or until < begin:
                continue
            tried.add(holder)
            if holder not in holder_of or assign(holder_of[holder], tried):
                holder_of[holder] = message
                return True
        return False

    return [message for message in range(len(messages)) if not assign(message, set())]


class _Own:
    """What own channels received."""

    def __init__(self, testimony: Testimony) -> None:
        self._testimony = testimony
        self._got: set[tuple[int, int, int, int]] = set()
        self._last: dict[tuple[int, int, int], int] = {}
        for receipt in testimony.receipts:
            if receipt.op == Op.OWN:
                self._got.add((receipt.reader, receipt.place, receipt.sender, receipt.number))
                self._last[receipt.reader, receipt.place, receipt.sender] = receipt.number

    def has(self, reader: int, place: int, sent: Sent) -> bool:
        return (reader, place, sent.sender, sent.number) in self._got

    def died_before(self, reader: int, place: int, sent: Sent) -> bool:
        """Whether the reader was killed and received nothing later: a gap is never right."""
        has_died = self._testimony.lives[reader].killed is not None
        return has_died and self._last.get((reader, place, sent.sender), 0) < sent.number


def _lost_direct(testimony: Testimony, report: Report) -> Iterator[str]:
    own = _Own(testimony)
    for sent in testimony.sends.values():
        if sent.op != Op.DIRECT or sent.state != State.DONE or own.has(sent.who, sent.place, sent):
            continue
        report.lost["in the inbox of a killed process"] += 1
        if sent.who not in testimony.lives:
            continue  # of an earlier round
        if not own.died_before(sent.who, sent.place, sent):
            yield f"{sent} is lost; {testimony.lives[sent.who]} lived, or has got later ones"


def _groups(testimony: Testimony, report: Report) -> Iterator[str]:
    """Each member from before the send until after it has to get it."""
    own = _Own(testimony)
    for place, memberships in testimony.groups.items():
        sends = [sent for sent in testimony.sends.values() if sent.op == Op.GROUP and sent.place == place]
        for sent, member in members_of(sends, memberships):
            if own.has(member.reader, member.own, sent):
                continue
            report.lost["in the inbox of a killed process"] += 1
            if not own.died_before(member.reader, member.own, sent):
                yield f"{sent} is lost for {member}, who lived, or has got later ones"


def members_of(sends: list[Sent], memberships: list[Membership]) -> Iterator[tuple[Sent, Membership]]:
    """Each send with each of those who were members all the time while it took effect."""
    coming = sorted(memberships, key=lambda member: member.joined, reverse=True)
    here: list[Membership] = []
    for sent in sorted(sends, key=lambda sent: sent.begin):
        while coming and coming[-1].joined <= sent.begin:
            here.append(coming.pop())
        here = [member for member in here if member.leaving >= sent.begin]
        if sent.state == State.DONE:
            yield from ((sent, member) for member in here if member.leaving >= sent.end)


# Pauses


def _pauses(testimony: Testimony, report: Report) -> Iterator[str]:
    waits = [(step.begin, step.end, step.delay) for step in testimony.steps]
    waits += [(receipt.begin, receipt.end, receipt.delay) for receipt in testimony.receipts]

    def is_pause(what: str, begin: float, end: float, delay: float) -> bool:
        net = end - begin - delay
        report.pause(what, end - begin, net)
        if net <= LONGEST_PAUSE:
            return False
        # It waited for another process, which may have waited for a processor itself: none for longer than this.
        return net > LONGEST_PAUSE + max(wait for since, until, wait in waits if since < end and until > begin)

    for step in testimony.steps:
        if is_pause(step.op.name.lower(), step.begin, step.end, step.delay):
            yield f"{step.life}: {step} took {step.end - step.begin:.2f} s"
    for receipt in testimony.receipts:
        sent = testimony.sends.get((receipt.sender, receipt.number))
        if sent is not None:
            # From when on the message was there and its reader waited.
            begin = max(receipt.begin, sent.end)
            if is_pause("wait for a message that is there", begin, receipt.end, receipt.delay):
                yield f"{receipt} came {receipt.end - begin:.2f} s late: {sent}"
    for life, record in testimony.unfinished:
        if life.killed is None or record.op in (Op.RECEIVE, Op.OWN):
            continue
        if life.killed[0] - record.begin > UNFINISHED:
            yield f"{life} was in {Op(record.op).name} for {life.killed[0] - record.begin:.1f} s"


# Grinders


def _ground(lives: list[Life], ledger: Ledger, report: Report) -> Iterator[str]:
    """Each grinder that was killed may have held one message."""
    used = CHUNK * sum(life.seat.role == "grinder" for life in lives)
    sent, taken = ledger.sent[:used], ledger.taken[:used]
    report.ground += sent.count(1)
    twice = used - taken.count(0) - taken.count(1)
    if twice:
        yield f"grinders: {twice} messages were taken more than once"
    # As two long numbers, since a loop over millions of bytes would take longer than the round.
    unread = (int.from_bytes(sent) & ~int.from_bytes(taken)).bit_count()
    dead = sum(life.seat.role == "grinder" and life.killed is not None for life in lives)
    report.lost["in the hands of a killed grinder"] += unread
    if unread > dead:
        yield f"grinders: {unread} messages are lost, and only {dead} grinders were killed"
