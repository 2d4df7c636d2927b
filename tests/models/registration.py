"""A model of what one server knows of one group of a machine: register, forget, the record, renewals and lost data.

The segment knows who of the machine is in the group. The server knows that the machine is, until a time T. Processes
join and leave, die, and give calls up, whose commands may be executed later. *Renewers* are processes that keep the
machine's alive key: any number of them, each may be stopped at any time and come back, or die. The server's clock
stands still, unless the scenario is about deadlines: the worst case for numbers that are made from it.

The rules that hold:

- *group_add*: in one critical section the local membership begins, and the record is looked at. If it is valid until
  the membership's deadline, that is all. Else a register is sent, or one that the process has under way is awaited.
  When its answer has come, the record is *looked at again*, and so on until it is valid: the register may be older than
  the membership, and its T forgotten since. A failure ends the membership.
- *register* carries the highest T ever given to forget, as of that look. It sets and returns T = max(old T + 1,
  forgotten T + 1, now + 2 x group_expiry). *forget(T)* removes only that T. So no T is given again that a late forget
  names, and a server with a clock behind gives at once a T that counts.
- *The record* is T and R. R is read before the register is sent. It is stored only if T is above the highest T ever
  given to forget, and valid only for the present R and up to T.
- *No member*: who finds none for an entry with T raises the highest T given to forget, and makes a record of T or older
  invalid, in that critical section. Then it sends forget(T), whether there was a record or not. Who sweeps a group
  does the same with the record's T.
- *R* is the alive key's value. A renewal carries the R and the server's run id that it has seen in the segment. If the
  key has that value, and the server that run id, the key is prolonged. Else the *server* sets the key to another value,
  drawn at random by the caller, and answers `gone`. Only then, and only if R is still the one that was asked with, the
  new value and run id become the segment's. So the segment never has an R that the server does not know yet: a group
  registered with such an R would be removed with the next message, as the machine counts as dead, and its record would
  be valid. R + 1 will not do: a stopped process would set the key to it once more, after another loss.
- *The run id* is needed. A failover may lose the last registrations and keep the key.
- *The walk*: with R set anew, each group with members is registered, in the same way. Then `walked` = R, if R is still
  that one. Whoever renews and finds `walked` behind walks, too.
- *A move* takes along R, `walked`, the run id and the highest T given to forget. Records stay behind, the processes
  register their members again. If the old segment cannot be read, the new one has another id, and so is another machine
  to the servers.

It is not needed for this that only one process renews. Two of them cost a walk more at times: the command of a stopped
one sets the key to a value that nobody has. Nor is it needed that R is compared when a renewal's answer sets it, or
that the membership begins before the register is sent, as the record is looked at again. But a group whose messages
come faster than answers would be forgotten each time.

What is left out: notes of other machines; clocks that are set, and flushes, which count as lost data; records that are
damaged, which count as invalid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.models.explorer import Hope, Rules, Step, put

NOBODY = -1
_MOST_FORGETS = 2
"""On their way at a time."""

MUTANTS = {
    "answer believed": "who awaited an answer does not look whether it made the record valid",
    "T not above the old one": "register does not make T higher than that of the registration that there is",
    "T not above the forgotten": "register does not make T higher than what was forgotten",
    "forgets any T": "forget removes a registration whatever its T",
    "forget first": "forget is sent before the record is made invalid",
    "only the same record": "an entry without a member makes an older record not invalid",
    "no second forget": "an entry without a member leads to a forget only if there is a record",
    "late answer stored": "an answer is stored although its T was forgotten meanwhile",
    "R of the answer": "a record carries R as it is when the answer arrives",
    "R not compared": "a record is believed whatever its R",
    "key from the start": "a renewal that finds the key gone sets it to the R that it was",
    "R before the key": "the segment's R is raised before the key is set to it",
    "walked at once": "a walk counts as done when it begins",
    "walked whatever R": "a walk that ends counts for the present R",
    "walks are not finished": "nobody finishes the walk of a dead process",
    "another server is no news": "the server's run id is not compared",
    "R plus one": "a renewal sets the key to R + 1, which another renewal may do, too",
    "forgotten T left behind": "a new segment does not know the highest T that was forgotten",
    "record to its end": "a record is believed until its T, not only for what ends before",
}


class Server(NamedTuple):
    run: int = 0
    key: int = 1  # the alive key's value; 0: there is none
    registered: int = 0  # T; 0: not at all
    key_was: int = 1  # what a replica may still have
    registered_was: int = 0


class Segment(NamedTuple):
    r: int = 1
    walked: int = 1
    run: int = 0
    record: tuple[int, int] | None = None  # T, R
    forgotten: int = 0  # the highest T ever given to forget
    number: int = 0  # of the segment


class Command(NamedTuple):
    """On its way to the server."""

    what: str
    owner: int = NOBODY  # who awaits the answer
    value: int = 0


class Call(NamedTuple):
    """A process's register."""

    r: int
    t: int = 0  # the answer
    segment: int = 0


class Caller(NamedTuple):
    process: int
    todo: tuple[str, ...]
    at: str = "idle"
    member: bool = False
    joined: bool = False
    until: int = 0


class Renewer(NamedTuple):
    at: str = "idle"
    r: int = 0
    ok: bool = False
    new: int = 0
    run: int = 0
    t: int = 0
    segment: int = 0


class State(NamedTuple):
    callers: tuple[Caller, ...]
    calls: tuple[Call | None, ...]
    renewers: tuple[Renewer, ...]
    server: Server = Server()
    segment: Segment = Segment()
    wire: tuple[Command, ...] = ()
    entries: tuple[int, ...] = ()  # on their way to the machine: each one's T
    seen: tuple[int, ...] = ()  # the mutant "forget first": entries that found no member
    now: int = 0
    used: int = 1  # the last R
    deaths: int = 0
    losses: int = 0
    failures: int = 0
    moves: int = 0


Next = tuple[str, str, State]


class Registration(Rules):
    """`processes`: of each the callers, of each what it does: "join", "leave". The rest is what may happen."""

    mutants = MUTANTS

    def __init__(
        self,
        *processes: tuple[tuple[str, ...], ...],
        renewers: int = 0,
        deaths: int = 0,
        losses: tuple[str, ...] = (),
        most_losses: int = 1,
        failures: int = 0,
        moves: int = 0,
        entries: int = 1,
        sweeps: bool = False,
        ticks: int = 0,
        most_r: int = 3,
        settled: bool = False,
    ) -> None:
        self.processes = processes
        self.renewers = renewers
        self.deaths = deaths
        self.losses = losses
        self.most_losses = most_losses
        self.failures = failures
        self.moves = moves
        self.entries = entries
        self.sweeps = sweeps
        self.ticks = ticks
        self.expiry = 2 if ticks else 0
        self.most_r = most_r
        self.settled = settled

    @property
    def hopes(self) -> tuple[Hope, ...]:
        happens = frozenset({"death", "loss", "failure", "time"})
        ends = Hope("the group stays registered without a member", _is_over, _is_unknown, happens)
        noticed = Hope("a lost registration is never noticed", self._may_renew, self.is_known, happens)
        ended = Hope("a group_add does not end", lambda s: True, _nobody_waits, happens)
        return (ended,) + (ends,) * (self.entries > 0) + (noticed,) * (self.renewers > 0)

    def initial(self) -> State:
        callers = tuple(Caller(n, todo) for n, callers in enumerate(self.processes) for todo in callers)
        first = State(callers, (None,) * len(self.processes), (Renewer(),) * self.renewers)
        if not self.settled:
            return first
        callers = tuple(c._replace(member=True, joined=True) for c in callers)
        return first._replace(callers=callers, server=Server(registered=1), segment=Segment(record=(1, 1)))

    # What every state must hold

    def wrong(self, s: State) -> str | None:
        if s.server.registered or self.will_be_noticed(s):
            return None
        if any(c.joined for c in s.callers):
            return "a member is not registered, and nobody will notice"
        if self.is_valid(s, s.now):
            return "a record is valid, and the group is not registered"
        return None

    def will_be_noticed(self, s: State) -> bool:
        """By the next renewal, or it is under way."""
        g = s.segment
        return s.server.key != g.r or s.server.run != g.run or g.walked != g.r

    def _may_renew(self, s: State) -> bool:
        asked = sum(r.at == "asks" for r in s.renewers)
        return s.used + asked < self.most_r and any(c.joined for c in s.callers)

    def is_known(self, s: State) -> bool:
        g, server = s.segment, s.server
        known = server.registered > 0 and (server.key, server.run, g.walked) == (g.r, g.run, g.r)
        return known or not any(c.member for c in s.callers)

    def is_valid(self, s: State, until: int) -> bool:
        """Whether the record says that the group is registered until then."""
        record = s.segment.record
        if record is None or record[0] < until:
            return False
        return record[1] == s.segment.r or self.without == "R not compared"

    # What may happen next

    def steps(self, s: State) -> Iterator[Step]:
        for n, c in enumerate(s.callers):
            for what, kind, state in self._caller(s, n, c):
                yield Step(f"process {c.process} caller {n} {what}", kind, state)
        for p, call in enumerate(s.calls):
            yield from self._process(s, p, call)
        for n, r in enumerate(s.renewers):
            for what, kind, state in getattr(self, r.at)(s, n, r):
                yield Step(f"renewer {n} {what}", kind, state)
            if r.at != "idle" and s.deaths < self.deaths:
                orphans = self._orphaned(s.wire, ~n)
                state = s._replace(renewers=put(s.renewers, n, Renewer()), wire=orphans, deaths=s.deaths + 1)
                yield Step(f"renewer {n} dies", "death", state)
        yield from self._server(s)
        yield from self._reader(s)
        yield from self._losses(s)
        if s.moves < self.moves:
            yield Step("the segment is replaced", "", self._moved(s))
        if s.now < self.ticks:
            yield Step("time passes", "time", self._tick(s))

    def _process(self, s: State, p: int, call: Call | None) -> Iterator[Step]:
        if call is not None and call.t:
            yield Step(f"process {p} takes the answer {call.t}", "", self._answered(s, p, call))
        if call is not None and s.failures < self.failures:
            for state in self._fails(s, p):
                yield Step(f"process {p} gives its register up", "failure", state)
        if s.deaths < self.deaths and any(c.process == p and c.at != "dead" for c in s.callers):
            yield Step(f"process {p} dies", "death", self._dies(s, p))

    def send(self, s: State, command: Command) -> State:
        return s._replace(wire=tuple(sorted((*s.wire, command))))

    def caller(self, s: State, n: int, **what: object) -> State:
        return s._replace(callers=put(s.callers, n, s.callers[n]._replace(**what)))

    def set(self, s: State, **what: object) -> State:
        return s._replace(segment=s.segment._replace(**what))

    def serve(self, s: State, **what: object) -> State:
        server = s.server
        if "tail" in self.losses:
            server = server._replace(key_was=server.key, registered_was=server.registered)
        return s._replace(server=server._replace(**what))

    # Callers of group_add and group_discard

    def _caller(self, s: State, n: int, c: Caller) -> Iterator[Next]:
        if c.at == "idle" and c.todo:
            todo = c.todo[1:]
            if c.todo[0] == "leave":
                yield "leaves", "", self.caller(s, n, todo=todo, member=False, joined=False)
            else:
                state = self.caller(s, n, todo=todo, member=True, until=s.now + self.expiry)
                yield "joins", "", self._ask(state, n)
        elif c.at == "awaits" and c.todo[:1] == ("leave",):
            yield "is discarded by another task", "", self.caller(s, n, at="idle", todo=c.todo[1:], member=False)
        elif c.at == "again":
            state = self.caller(s, n, member=True, until=s.now + self.expiry)
            if self.without == "answer believed":
                yield "has joined", "", self.caller(state, n, at="idle", joined=True)
            else:
                yield "looks again", "", self._ask(state, n)

    def _ask(self, s: State, n: int) -> State:
        """In the same critical section as the membership: is the record valid? Else register, together with others."""
        c = s.callers[n]
        until = s.now if self.without == "record to its end" else c.until
        if self.is_valid(s, until):
            return self.caller(s, n, at="idle", member=True, joined=True)
        s = self.caller(s, n, at="awaits")
        if s.calls[c.process] is not None:
            return s
        call = Call(s.segment.r, segment=s.segment.number)
        s = s._replace(calls=put(s.calls, c.process, call))
        return self.send(s, Command("register", c.process, self._floor(s)))

    def _floor(self, s: State) -> int:
        return 0 if self.without == "T not above the forgotten" else s.segment.forgotten

    def _answered(self, s: State, p: int, call: Call) -> State:
        s = self._store(s._replace(calls=put(s.calls, p, None)), call)
        callers = tuple(c._replace(at="again") if c.process == p and c.at == "awaits" else c for c in s.callers)
        return s._replace(callers=callers)

    def _store(self, s: State, call: Call) -> State:
        g = s.segment
        r = g.r if self.without == "R of the answer" else call.r
        if call.segment != g.number or (call.t <= g.forgotten and self.without != "late answer stored"):
            return s
        if g.record is not None and (g.record[0] >= call.t or r != g.r) and self.is_valid(s, 0):
            return s
        return self.set(s, record=(call.t, r))

    def _fails(self, s: State, p: int) -> Iterator[State]:
        callers = tuple(
            c._replace(at="idle", member=False) if c.process == p and c.at == "awaits" else c for c in s.callers
        )
        s = s._replace(calls=put(s.calls, p, None), callers=callers, failures=s.failures + 1)
        yield s._replace(wire=self._orphaned(s.wire, p))
        if any(command.owner == p for command in s.wire):
            yield s._replace(wire=tuple(command for command in s.wire if command.owner != p))

    def _orphaned(self, wire: tuple[Command, ...], owner: int) -> tuple[Command, ...]:
        """Commands without the one who awaits them, which may still be executed."""
        return tuple(sorted(c._replace(owner=99) if c.owner == owner and c.what != "forget" else c for c in wire))

    def _dies(self, s: State, p: int) -> State:
        callers = tuple(Caller(p, (), "dead") if c.process == p else c for c in s.callers)
        return s._replace(
            callers=callers,
            calls=put(s.calls, p, None),
            wire=self._orphaned(s.wire, p),
            deaths=s.deaths + 1,
        )

    # The server

    def _server(self, s: State) -> Iterator[Step]:
        for i, command in enumerate(s.wire):
            state = s._replace(wire=(*s.wire[:i], *s.wire[i + 1 :]))
            name = f"the server executes {command.what}"
            if command.what == "forget":
                matches = s.server.registered == command.value or self.without == "forgets any T"
                yield Step(f"{name} {command.value}", "", self.serve(state, registered=0) if matches else state)
            elif command.what == "set":
                state = self.serve(state, key=command.value)
                if command.owner != 99:
                    state = self.renewer(state, ~command.owner, at="walks")
                yield Step(f"{name} {command.value}", "", state)
            else:
                t = self._next_t(s, command.value)
                state = self.serve(state, registered=t)
                if command.owner < 0:
                    state = self.renewer(state, ~command.owner, at="registered", t=t)
                elif command.owner != 99:
                    call = state.calls[command.owner]
                    assert call is not None
                    state = state._replace(calls=put(state.calls, command.owner, call._replace(t=t)))
                yield Step(f"{name}: {t}", "", state)

    def _next_t(self, s: State, floor: int) -> int:
        least = max(s.now + 2 * self.expiry if self.ticks else 1, floor + 1)
        return least if self.without == "T not above the old one" else max(least, s.server.registered + 1)

    def _reader(self, s: State) -> Iterator[Step]:
        """Messages to the group, and what the machine's reader does with their entries."""
        t = s.server.registered
        if t and not s.server.key:
            yield Step("a message is sent: the machine counts as dead", "", self.serve(s, registered=0))
        elif t and len(s.entries) < self.entries:
            state = s._replace(entries=tuple(sorted((*s.entries, t))))
            yield Step(f"a message is sent: {t}", "", state)
        if sum(command.what == "forget" for command in s.wire) == _MOST_FORGETS:
            return
        for i, t in enumerate(s.entries):
            yield from self._entry(s._replace(entries=(*s.entries[:i], *s.entries[i + 1 :])), t)
        for t in s.seen:
            state = self._invalid(s._replace(seen=tuple(each for each in s.seen if each != t)), t)
            yield Step(f"the record of {t} is made invalid", "", state)
        record = s.segment.record
        if self.sweeps and record is not None and not any(c.member for c in s.callers):
            state = self.send(self._invalid(s, record[0]), Command("forget", value=record[0]))
            yield Step("the group is swept", "", state)

    def _entry(self, s: State, t: int) -> Iterator[Step]:
        finds = f"the entry {t} finds no member"
        forget = Command("forget", value=t)
        if any(c.member for c in s.callers):
            yield Step(f"the entry {t} is delivered", "", s)
        elif self.without == "forget first":
            yield Step(finds, "", self.send(s, forget)._replace(seen=(*s.seen, t)))
        elif self.without == "no second forget" and s.segment.record is None:
            yield Step(finds, "", self._invalid(s, t))
        else:
            state = self._invalid(s, t)
            yield Step(finds, "", self.send(state, forget))
            if s.deaths < self.deaths:
                yield Step(f"{finds}, the reader dies", "death", state._replace(deaths=s.deaths + 1))

    def _invalid(self, s: State, t: int) -> State:
        g = s.segment
        s = self.set(s, forgotten=max(g.forgotten, t))
        if g.record is None or g.record[0] > t or (g.record[0] < t and self.without == "only the same record"):
            return s
        return self.set(s, record=None)

    # What may be lost

    def _losses(self, s: State) -> Iterator[Step]:
        if s.losses == self.most_losses:
            return
        server = s.server
        s = s._replace(losses=s.losses + 1)
        if "data" in self.losses:
            new = Server(server.run + 1, 0, 0, 0, 0)
            yield Step("the server restarts without its data", "loss", s._replace(server=new))
        if "key" in self.losses:
            yield Step("the alive key expires", "loss", self.serve(s, key=0))
        if "flush" in self.losses:
            yield Step("the server's keys are deleted", "loss", self.serve(s, key=0, registered=0))
        if "tail" in self.losses:
            for key in {server.key, server.key_was}:
                for t in {server.registered, server.registered_was}:
                    new = Server(server.run + 1, key, t, key, t)
                    what = f"a failover: the key is {key}, registered {t}"
                    yield Step(what, "loss", s._replace(server=new))
        if "record" in self.losses and s.segment.record is not None:
            yield Step("the record is lost", "loss", self.set(s, record=None))

    def _moved(self, s: State) -> State:
        """Each process registers its members in the new segment, and then goes on as in group_add."""
        old = s.segment
        forgotten = 0 if self.without == "forgotten T left behind" else old.forgotten
        callers = tuple(
            c._replace(at="idle", member=False, joined=False, todo=("join", *c.todo))
            if c.at != "dead" and (c.member or c.at in ("awaits", "again"))
            else c
            for c in s.callers
        )
        wire = s.wire
        for p in range(len(s.calls)):
            wire = self._orphaned(wire, p)
        return s._replace(
            segment=old._replace(record=None, forgotten=forgotten, number=old.number + 1),
            callers=callers,
            calls=(None,) * len(s.calls),
            wire=wire,
            moves=s.moves + 1,
        )

    def _tick(self, s: State) -> State:
        now = s.now + 1
        callers = tuple(c._replace(member=False, joined=False) if c.member and c.until < now else c for c in s.callers)
        s = s._replace(now=now, callers=callers)
        return self.serve(s, registered=0) if 0 < s.server.registered < now else s

    # Renewals

    def renewer(self, s: State, n: int, **what: object) -> State:
        return s._replace(renewers=put(s.renewers, n, s.renewers[n]._replace(**what)))

    def idle(self, s: State, n: int, r: Renewer) -> Iterator[Next]:
        g = s.segment
        yield f"renews with {g.r}", "", self.renewer(s, n, at="asks", r=g.r, run=g.run, segment=g.number)

    def asks(self, s: State, n: int, r: Renewer) -> Iterator[Next]:
        server = s.server
        here = server.run == r.run or self.without == "another server is no news"
        if server.key == r.r and here:
            yield "is answered: as before", "", self.renewer(s, n, at="answered", ok=True)
        elif self.without == "R before the key":
            yield "is answered: gone", "", self.renewer(s, n, at="answered", run=server.run)
        elif s.used < self.most_r:
            new = s.used + 1
            if self.without == "R plus one":
                new = r.r + 1
            key = r.r if self.without == "key from the start" else new
            state = self.serve(s._replace(used=s.used + 1), key=key)
            yield f"is answered: gone, now {new}", "", self.renewer(state, n, at="answered", new=new, run=server.run)

    def answered(self, s: State, n: int, r: Renewer) -> Iterator[Next]:
        g = s.segment
        done = s._replace(renewers=put(s.renewers, n, Renewer()))
        if r.segment != g.number or r.r != g.r:
            yield "has an answer of no use", "", done
        elif r.ok and g.walked != g.r and self.without != "walks are not finished":
            yield "goes on with a walk", "", self.renewer(s, n, at="walks", ok=False, run=0)
        elif r.ok:
            yield "has renewed", "", done
        elif r.new:
            state = self.set(s, r=r.new, run=r.run, walked=r.new if self.without == "walked at once" else g.walked)
            yield f"sets R to {r.new}", "", self.renewer(state, n, at="walks", r=r.new, new=0, run=0)
        elif s.used < self.most_r:
            new = s.used + 1
            state = self.set(s, r=new, run=r.run)._replace(used=new)
            state = self.send(self.renewer(state, n, at="sets", r=new, run=0), Command("set", ~n, new))
            yield f"sets R to {new}", "", state

    def sets(self, s: State, n: int, r: Renewer) -> Iterator[Next]:
        """The command is on its way."""
        return iter(())

    def walks(self, s: State, n: int, r: Renewer) -> Iterator[Next]:
        if r.segment != s.segment.number:
            yield "finds another segment", "", s._replace(renewers=put(s.renewers, n, Renewer()))
        elif any(c.member for c in s.callers):
            state = self.send(self.renewer(s, n, at="registers"), Command("register", ~n, self._floor(s)))
            yield "walks: registers", "", state
        else:
            yield "walks: no member", "", self.renewer(s, n, at="walked")

    registers = sets

    def registered(self, s: State, n: int, r: Renewer) -> Iterator[Next]:
        state = self._store(s, Call(r.r, r.t, r.segment))
        yield f"takes the answer {r.t}", "", self.renewer(state, n, at="walked", t=0)

    def walked(self, s: State, n: int, r: Renewer) -> Iterator[Next]:
        state = s._replace(renewers=put(s.renewers, n, Renewer()))
        g = s.segment
        if r.segment == g.number and (r.r == g.r or self.without == "walked whatever R"):
            state = self.set(state, walked=g.r)
        yield "has walked", "", state


def _is_over(s: State) -> bool:
    """Nobody is a member, nobody joins any more."""
    return not any(c.member or c.todo or c.at in ("awaits", "again") for c in s.callers)


def _nobody_waits(s: State) -> bool:
    return not any(c.at in ("awaits", "again") for c in s.callers)


def _is_unknown(s: State) -> bool:
    return not s.server.registered
