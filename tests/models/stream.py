"""A model of a machine's stream on one server: how its entries get into the machine's segment, once and in order.

Reading takes nothing away from the server. The segment keeps the *position*, the id of the last entry that it took in.
Any process of the machine may read at any time, be stopped with entries in its hand, come back later, or die. A read
may be abandoned at any time. No lease keeps two processes from anything here: a lease saves connections, and nothing
depends on it. A critical section is one step, as the model of the lock allows. Only what a put does is two: the
position moves, the entry is done. In between the process may be stopped with the lock, or die.

The rules that hold:

- *Look, then ask.* A reader notes position and turn in one critical section before it sends anything. It reads from
  that position on.
- *Put* is one critical section. It refuses if the segment is retired, if the turn is not that of the look, if the
  entry's incarnation is not the segment's, if the id is not above the position, or if there is no room. Else the
  position moves first, then the entry is done. No refusal moves the position.
- *The turn* is a number that changes whenever the position is set anew, for whatever reason. The epoch is not enough: a
  failover keeps it, and what was read before would be taken in again.
- *Flushes.* An entry from before the segment's epoch is dropped: the position moves. An entry with a newer number of
  flushes flushes the segment first, in the same critical section, then it is done. A flush leaves the position where it
  is: what was sent after it is still to come. It empties the stream but keeps its key, with the last id.
- *Renewals.* A new connection renews before it reads anything. The answer has the server's run id, the stream's last id
  and the epoch. It counts only if the turn is still that of the look. If run id or incarnation is another, the position
  becomes the lower of itself and the last id, and epoch, run id and turn are set anew: only here may the number of
  flushes fall. Else, if the last id is below the position *as of the look*, and the position has not moved since, it is
  set to the last id, with another turn. Else a newer number of flushes flushes the segment.
- *Trims* remove what is below a position that the segment had.
- *Moves.* The mover takes the lock, retires the segment, and only then reads position, turn, run id and epoch for the
  new one. If the lock is not to be had, it retires the segment all the same, and the new one has no position. The first
  renewal that looked at the new one sets it to the stream's last id.

What may get lost: the one entry in work when a process dies in a put. What a failover loses; and what the new server
stores with ids that were given before, as its clock is behind, until a renewal. What is not in the segment when a move
does not get the lock.

What is left out: an old primary that still answers when another server has taken over, and a key that is lost, with a
clock that was set back, while a stopped process has entries in its hand. In these two cases order may break. And the
pause after a move, in which the other processes open their inboxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.models.explorer import Hope, Rules, Step, put

Epoch = tuple[int, int]
"""Incarnation of the server's data, and number of flushes."""
NOWHERE = -1
"""A position that is not known: the segment that kept it could not be read."""
NOBODY, MOVER = -1, -2

MUTANTS = {
    "done first": "an entry is done before the position moves",
    "no position": "put does not compare the id with the position",
    "two steps": "put compares in one critical section, and moves the position in another",
    "no turn": "put accepts what was read before the position was set anew",
    "reads before it renews": "a new connection reads before it has renewed",
    "another server is no news": "the server's run id is not compared",
    "lost ids unnoticed": "a last id below the position is not noticed",
    "last id against the present position": "an answer is compared with the position as it is when the answer arrives",
    "position set blindly": "the position is set although it has moved since the question",
    "old answer counts": "an answer counts although the position was set anew since the question",
    "from the start": "after a loss the position is set to the start of the stream",
    "to the end": "another server's stream is read from its end on, also if its ids go on",
    "another incarnation is no news": "an entry of another incarnation is taken in as it comes",
    "flush to the end": "a flush sets the position to the end of the stream",
    "old epoch refused": "an entry from before a flush is refused, and the position stays",
    "old epoch done": "an entry from before a flush is done like any other",
    "new epoch done": "an entry with a new epoch is done, and the segment is flushed later",
    "epoch only rises": "another server's lower epoch is not believed",
    "empty stream expires": "the key of an empty stream is not prolonged, and ids start anew",
    "flush deletes the stream": "a flush deletes the stream's key, and ids start anew",
    "trims what was read": "the stream is trimmed up to what was read",
    "full moves the position": "the position moves although the segment has no room",
    "read before retired": "a mover reads the position before it retires the segment",
    "retired takes in": "a retired segment does not refuse",
    "position left behind": "a mover leaves the position behind that it could have read",
    "unknown is the start": "where the position is unknown, the stream is read from its start on",
    "end asked before": "the end of the stream, asked for before the move, counts after it",
}


class Entry(NamedTuple):
    id: int
    number: int  # of the message, in the order of sending
    epoch: Epoch


class Server(NamedTuple):
    run: int = 0  # the run id: another one after each failover or restart
    log: tuple[Entry, ...] = ()  # all entries, those trimmed as well
    trimmed: int = 0  # entries below are gone, though a replica may still have them
    last: int = 0  # the stream's last id
    clock: int = 0  # ids are above it; 0 as long as the clock does not matter
    epoch: Epoch = (0, 0)


class Segment(NamedTuple):
    position: int = 0
    turn: int = 0  # how often the position was set anew
    run: int = 0  # of the server that the position belongs to
    epoch: Epoch = (0, 0)
    owner: int = NOBODY  # of its lock
    retired: bool = False


class Answer(NamedTuple):
    """A renewal's."""

    run: int
    last: int
    epoch: Epoch


class Reader(NamedTuple):
    at: str = "idle"
    segment: int = 0  # the one that it is attached to
    run: int = 0  # of the server at the other end of its connection
    position: int = 0  # as it has seen it
    turn: int = 0
    answer: Answer | None = None
    hand: tuple[Entry, ...] = ()


class State(NamedTuple):
    readers: tuple[Reader, ...]
    server: Server = Server()
    segments: tuple[Segment, ...] = (Segment(),)
    mover: str = ""
    carried: Segment | None = None
    sent: int = 0
    high: int = 0  # the highest id ever given
    done: frozenset[int] = frozenset()  # numbers of messages
    lost: frozenset[int] = frozenset()  # by a flush, by a server, or in a move that did not get the lock
    inside: int = 0  # deaths with an entry in work
    deaths: int = 0
    failovers: int = 0
    losses: int = 0
    flushes: int = 0
    full: int = 0
    fault: str = ""


Next = tuple[str, str, State]


class Stream(Rules):
    """`messages` in all, read `batch` at a time by `readers`. The rest is what may happen, and how often."""

    mutants = MUTANTS

    def __init__(
        self,
        messages: int,
        readers: int = 2,
        batch: int = 2,
        *,
        deaths: int = 0,
        failovers: int = 0,
        wipes: int = 0,
        key_losses: int = 0,
        flushes: int = 0,
        full: int = 0,
        moves: int = 0,
        trims: bool = False,
    ) -> None:
        self.messages = messages
        self.readers = readers
        self.batch = batch
        self.deaths = deaths
        self.failovers = failovers
        self.wipes = wipes
        self.key_losses = key_losses
        self.flushes = flushes
        self.full = full
        self.moves = moves
        self.trimming = trims

    @property
    def hopes(self) -> tuple[Hope, ...]:
        happens = frozenset({"death", "failover", "flush", "full", "time"})
        return (Hope("reading does not go on", _somebody_lives, self.is_read, happens),)

    def initial(self) -> State:
        return State((Reader(),) * self.readers)

    def is_read(self, s: State) -> bool:
        """All is sent, and the segment has taken in, or passed over, all that is there."""
        now = s.segments[-1]
        here = (now.position, now.epoch) == (s.server.last, s.server.epoch) and not now.retired
        return s.sent == self.messages and here and all(r.at != "inside" for r in s.readers)

    def wrong(self, s: State) -> str | None:
        if s.fault:
            return s.fault
        now = s.segments[-1]
        if now.position == NOWHERE:
            return None
        at_work = {r.hand[0].number for r in s.readers if r.at in ("inside", "compared")}
        to_come = {e.number for e in s.server.log if e.id >= s.server.trimmed and e.id > now.position}
        flushed = {e.number for e in s.server.log if e.epoch < s.server.epoch}
        missing = set(range(s.sent)) - s.done - s.lost - at_work - to_come - flushed
        if len(missing) > s.inside:
            return f"message {max(missing)} is lost"
        return None

    # What may happen next

    def steps(self, s: State) -> Iterator[Step]:
        if s.sent < self.messages:
            yield Step(f"message {s.sent} is stored", "", self._sent(s))
        for n, r in enumerate(s.readers):
            if r.at == "dead":
                continue
            for what, kind, state in getattr(self, r.at)(s, n, r):
                yield Step(f"reader {n} {what}", kind, state)
            if s.deaths < self.deaths:
                yield Step(f"reader {n} dies", "death", self._dies(s, n, r))
        if self.without == "empty stream expires" and 0 < s.server.last == s.segments[-1].position:
            yield Step("the empty stream's key expires, ids start anew", "time", self._without_key(s))
        if s.flushes < self.flushes:
            yield Step("the server is flushed", "flush", self._flushed(s))
        yield from self._losses(s)
        yield from self._moves(s)

    def _sent(self, s: State) -> State:
        server = s.server
        entry = Entry(max(server.last, server.clock) + 1, s.sent, server.epoch)
        # What comes after a loss with an id that was there before may be passed over.
        lost = s.lost | {s.sent} if entry.id <= s.high else s.lost
        server = server._replace(log=(*server.log, entry), last=entry.id)
        return s._replace(server=server, sent=s.sent + 1, high=max(s.high, entry.id), lost=lost)

    def _dies(self, s: State, n: int, r: Reader) -> State:
        owned = tuple(g._replace(owner=NOBODY) if g.owner == n else g for g in s.segments)
        inside = s.inside + (r.at == "inside")
        return s._replace(readers=put(s.readers, n, Reader("dead")), segments=owned, deaths=s.deaths + 1, inside=inside)

    def _flushed(self, s: State) -> State:
        incarnation, flushes = s.server.epoch
        if self.without == "flush deletes the stream":
            s = self._without_key(s)
        return s._replace(server=s.server._replace(epoch=(incarnation, flushes + 1)), flushes=s.flushes + 1)

    def _without_key(self, s: State) -> State:
        """A protocol that removes the key has no excuse for what gets an old id afterwards."""
        gone = frozenset(e.number for e in s.server.log)
        return s._replace(server=s.server._replace(log=(), trimmed=0, last=0), lost=s.lost | gone, high=0)

    def _losses(self, s: State) -> Iterator[Step]:
        server = s.server
        if s.failovers < self.failovers:
            for kept in (0, *(e.id for e in server.log)):
                log = tuple(e for e in server.log if e.id <= kept)
                gone = frozenset(e.number for e in server.log if e.id > kept)
                epochs = {server.epoch, max([(0, 0), *(e.epoch for e in log)])}
                for clock, ids in ((s.high, "go on"), (0, "start anew"))[: 2 if kept < s.high else 1]:
                    for epoch in epochs:
                        new = Server(server.run + 1, log, 0, kept, clock, epoch)
                        state = s._replace(server=new, lost=s.lost | gone, failovers=s.failovers + 1)
                        yield Step(f"a failover: {len(gone)} entries are lost, ids {ids}", "failover", state)
        if s.losses < self.wipes:
            for clock, ids in ((s.high, "go on"), (0, "start anew")):
                new = Server(server.run, (), 0, 0, clock, (server.epoch[0] + 1, 0))
                gone = frozenset(e.number for e in server.log)
                state = s._replace(server=new, lost=s.lost | gone, losses=s.losses + 1)
                yield Step(f"all data are removed, ids {ids}", "failover", state)
        if s.losses < self.key_losses and not any(r.hand for r in s.readers):
            state = self._without_key(s)._replace(high=s.high, losses=s.losses + 1)
            yield Step("the stream's key is lost, ids start anew", "failover", state)

    def change(self, s: State, n: int, **what: object) -> State:
        return s._replace(readers=put(s.readers, n, s.readers[n]._replace(**what)))

    def set(self, s: State, which: int, **what: object) -> State:
        return s._replace(segments=put(s.segments, which, s.segments[which]._replace(**what)))

    def over(self, s: State, n: int) -> State:
        """A reader keeps nothing but its segment and its connection."""
        r = s.readers[n]
        return s._replace(readers=put(s.readers, n, Reader("idle", r.segment, r.run)))

    def refused(self, s: State, r: Reader) -> bool:
        return s.segments[r.segment].retired and self.without != "retired takes in"

    def is_free(self, s: State, r: Reader) -> bool:
        return s.segments[r.segment].owner == NOBODY

    # A reader

    def idle(self, s: State, n: int, r: Reader) -> Iterator[Next]:
        g = s.segments[r.segment]
        if g.retired and r.segment + 1 < len(s.segments):
            yield "attaches to the new segment", "", self.change(s, n, segment=r.segment + 1)
        if not self.is_free(s, r) or self.refused(s, r):
            return
        seen = {"position": g.position, "turn": g.turn}
        yield "looks at the position, to renew", "", self.change(s, n, at="asks", **seen)
        if r.run == NOBODY:
            if self.without == "reads before it renews":
                yield "connects", "", self.change(s, n, run=s.server.run)
        elif g.position != NOWHERE and (r.run == g.run or self._reads_anyway()):
            yield "looks at the position, to read", "", self.change(s, n, at="reads", **seen)
            if self.trimming:
                yield "looks at the position, to trim", "", self.change(s, n, at="trims", position=g.position)

    def _reads_anyway(self) -> bool:
        return self.without in ("reads before it renews", "another server is no news")

    def asks(self, s: State, n: int, r: Reader) -> Iterator[Next]:
        server = s.server
        answer = Answer(server.run, server.last, server.epoch)
        yield "is answered", "", self.change(s, n, at="answered", run=server.run, answer=answer)

    def answered(self, s: State, n: int, r: Reader) -> Iterator[Next]:
        if not self.is_free(s, r):
            return
        g, answer = s.segments[r.segment], r.answer
        assert answer is not None
        if self.without == "end asked before" and g.retired and r.segment + 1 < len(s.segments):
            r = r._replace(segment=r.segment + 1)
            s, g = self.change(s, n, segment=r.segment), s.segments[r.segment]
        elif self.refused(s, r) or (r.turn != g.turn and self.without != "old answer counts"):
            yield "has an answer of no use", "", self.over(s, n)
            return
        state = self.over(s, n)
        news = (answer.run != g.run and self.without != "another server is no news") or answer.epoch[0] != g.epoch[0]
        if g.position == NOWHERE:
            position = 0 if self.without == "unknown is the start" else answer.last
            state = self._set_anew(state, r, position, answer)
            ended = frozenset(e.number for e in state.server.log if e.id <= answer.last)
            yield "begins at the end", "", state._replace(lost=state.lost | ended)
        elif news:
            position = min(g.position, answer.last)
            if self.without == "to the end":
                position = answer.last
            if self.without == "lost ids unnoticed":
                position = g.position
            if self.without == "from the start" and answer.last < g.position:
                position = 0
            yield "notices another server", "", self._set_anew(state, r, position, answer)
        elif self._ids_were_lost(g, r, answer):
            position = 0 if self.without == "from the start" else answer.last
            yield "notices that ids were lost", "", self._set_anew(state, r, position, answer)
        else:
            yield "has renewed", "", self._flush(state, r.segment, answer.epoch, answer.last)

    def _ids_were_lost(self, g: Segment, r: Reader, answer: Answer) -> bool:
        if self.without == "lost ids unnoticed":
            return False
        if self.without == "last id against the present position":
            return answer.last < g.position
        return answer.last < r.position and (g.position == r.position or self.without == "position set blindly")

    def _set_anew(self, s: State, r: Reader, position: int, answer: Answer) -> State:
        g = s.segments[r.segment]
        s = self._flush(s, r.segment, answer.epoch, NOWHERE)
        epoch = g.epoch if self.without == "epoch only rises" and answer.epoch < g.epoch else answer.epoch
        turn = g.turn if self.without == "no turn" else g.turn + 1
        return self.set(s, r.segment, position=position, turn=turn, run=answer.run, epoch=epoch)

    def _flush(self, s: State, which: int, epoch: Epoch, last: int) -> State:
        """Another number of flushes of the same incarnation empties the segment."""
        g = s.segments[which]
        if epoch[0] != g.epoch[0] or epoch <= g.epoch:
            return s
        if any(e.epoch >= epoch and e.number in s.done for e in s.server.log):
            s = s._replace(fault="a flush removes what was sent after it")
        s = self.set(s, which, epoch=epoch)
        if self.without == "flush to the end" and last != NOWHERE:
            s = self.set(s, which, position=max(last, g.position), turn=g.turn + 1)
        return s

    def trims(self, s: State, n: int, r: Reader) -> Iterator[Next]:
        yield "trims", "", self.over(self._trimmed(s, r.position), n)

    def _trimmed(self, s: State, to: int) -> State:
        return s._replace(server=s.server._replace(trimmed=max(s.server.trimmed, to)))

    def reads(self, s: State, n: int, r: Reader) -> Iterator[Next]:
        server = s.server
        if r.run != server.run:
            yield "finds its connection broken", "", self.over(self.change(s, n, run=NOBODY), n)
            return
        found = tuple(e for e in server.log if e.id > r.position and e.id >= server.trimmed)[: self.batch]
        if found:
            yield f"reads {len(found)}", "", self.change(s, n, at="holds", position=0, hand=found)
        yield "abandons its read", "", self.over(s, n)

    def holds(self, s: State, n: int, r: Reader) -> Iterator[Next]:
        """put: the check, and the position moves"""
        if self.without == "trims what was read":
            yield "trims", "", self._trimmed(s, r.hand[-1].id)
        yield "abandons what it has read", "", self.over(s, n)
        if not self.is_free(s, r):
            return
        g, entry = s.segments[r.segment], r.hand[0]
        if self.refused(s, r) or r.turn != g.turn:
            yield "puts: refused, this was read before", "", self.over(s, n)
        elif entry.epoch[0] != g.epoch[0] and self.without != "another incarnation is no news":
            yield "puts: refused, another incarnation", "", self.over(s, n)
        elif entry.id <= g.position and self.without != "no position":
            yield "puts: refused, not above the position", "", self._next(s, n, r)
        elif entry.epoch < g.epoch and self.without == "old epoch refused":
            yield "puts: refused, from before a flush", "", self.over(s, n)
        else:
            if s.full < self.full:
                state = s._replace(full=s.full + 1)
                if self.without == "full moves the position":
                    state = self.set(state, r.segment, position=entry.id)
                yield "puts: refused, no room", "full", state
            if self.without == "two steps":
                yield "compares", "", self.change(s, n, at="compared")
            elif self.without == "done first":
                state = self._do(self.set(s, r.segment, owner=n), r, entry)
                yield f"does {entry.number}", "", self.change(state, n, at="inside")
            else:
                state = self.set(s, r.segment, position=entry.id, owner=n)
                yield f"puts {entry.number}: the position moves", "", self.change(state, n, at="inside")

    def compared(self, s: State, n: int, r: Reader) -> Iterator[Next]:
        if self.is_free(s, r):
            state = self.set(s, r.segment, position=r.hand[0].id, owner=n)
            yield "moves the position", "", self.change(state, n, at="inside")

    def _next(self, s: State, n: int, r: Reader) -> State:
        return self.change(s, n, hand=r.hand[1:], at="holds") if r.hand[1:] else self.over(s, n)

    def inside(self, s: State, n: int, r: Reader) -> Iterator[Next]:
        """put: the entry is done"""
        entry = r.hand[0]
        state = self.set(s, r.segment, owner=NOBODY)
        if self.without == "done first":
            state = self.set(state, r.segment, position=entry.id)
            yield "moves the position", "", self._next(state, n, r)
        else:
            yield f"has done {entry.number}", "", self._next(self._do(state, r, entry), n, r)

    def _do(self, s: State, r: Reader, entry: Entry) -> State:
        if self.refused(s, r):  # retired meanwhile, by a process that did not get the lock
            return s._replace(lost=s.lost | {entry.number})
        if self.without != "new epoch done":
            s = self._flush(s, r.segment, entry.epoch, NOWHERE)
        if entry.epoch < s.segments[r.segment].epoch:
            if self.without == "old epoch done":
                s = s._replace(fault="a message from before a flush is delivered after it")
            return s._replace(lost=s.lost | {entry.number})  # dropped, and the flush may be lost later
        if entry.number in s.done:
            s = s._replace(fault=f"message {entry.number} is delivered twice")
        elif s.done and entry.number < max(s.done):
            s = s._replace(fault=f"message {entry.number} is delivered after {max(s.done)}")
        return s._replace(done=s.done | {entry.number})

    # A move

    def _moves(self, s: State) -> Iterator[Step]:
        which = len(s.segments) - 1
        if which == self.moves:
            return
        g = s.segments[which]
        if s.mover:
            yield Step("the mover " + s.mover, "", getattr(self, s.mover.replace(" ", "_"))(s, g, which))
            if s.deaths < self.deaths:
                owner = NOBODY if g.owner == MOVER else g.owner
                state = self.set(s, which, owner=owner)._replace(mover="", carried=None, deaths=s.deaths + 1)
                yield Step("the mover dies", "death", state)
        elif g.owner == NOBODY:
            if self.without == "read before retired":
                yield Step("a mover reads the position", "", s._replace(mover="retires", carried=g))
            else:
                state = self.set(s, which, owner=MOVER, retired=True)
                yield Step("a mover retires the segment", "", state._replace(mover="reads the position"))
        else:
            state = self.set(s, which, retired=True)
            yield Step("a mover retires the segment without its lock", "", state._replace(mover="makes another one"))

    def retires(self, s: State, g: Segment, which: int) -> State:
        return self.set(s, which, retired=True)._replace(mover="makes another one")

    def reads_the_position(self, s: State, g: Segment, which: int) -> State:
        carried = g._replace(position=s.server.last) if self.without == "position left behind" else g
        return self.set(s, which, owner=NOBODY)._replace(mover="makes another one", carried=carried)

    def makes_another_one(self, s: State, g: Segment, which: int) -> State:
        new = Segment(NOWHERE, epoch=s.server.epoch)
        if s.carried is not None:
            new = s.carried._replace(owner=NOBODY, retired=False)
        return s._replace(segments=(*s.segments, new), mover="", carried=None)


def _somebody_lives(s: State) -> bool:
    return any(r.at != "dead" for r in s.readers)
