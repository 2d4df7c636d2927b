"""The segment's lock as a model: `lock.c`, `linux/exclusion.c`, `liveness.c`, and joining and leaving in `segment.c`.

Each method below is one atomic step, named for what the C code does there: one load, store or compare-and-swap of a
shared word, one question to the kernel. Between any two of them every other thread may run, and every process may die.

Memory is three facts: `torn`, an operation or a rebuild is under way in it, or died there; `stray`, somebody stored
into it who was not the owner any more; `value`, which each operation reads and stores one higher.

What is left out: generations never come around (they do after a million births in one slot), damage from outside, and
the death of a process that lost its record lock before it can tell. A wait that is over, or a mere glance at an owner
that stands still, is the same here: BUSY after the probe. That an owner died is known twice, by the word and by the
mark `dirty`; either would do, so neither alone is a rule that can be taken away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.models.explorer import Hope, Rules, Step, put

Word = tuple[int, int, bool]
"""Slot + 1 of the owner, its generation, and whether a thread may sleep on the word."""
FREE: Word = (0, 0, False)
FREE_WAITERS: Word = (0, 0, True)
NOBODY = -1

ENDED = ("done", "dead")
INSIDE = ("taken", "mark_rebuild", "rebuild", "rebuilt", "mark", "change", "commit", "unmark", "give", "give_waiters")
"""The steps of a thread between the swap that acquires the word and the one that releases it."""

MUTANTS = {
    "takeover stores": "a takeover stores the own word, whatever the word is by now",
    "takeover of another word": "a takeover swaps the word that is there now, not the one that was probed",
    "unlock stores": "unlock stores 'free', whoever owns the word",
    "no waiters flag": "who waited takes the lock without the flag, and so forgets who else sleeps",
    "unlock clears the flag": "unlock makes the word free without the flag, and wakes one",
    "try drops the flag": "a successful try takes the flag away",
    "sleep without the flag": "a waiter sleeps without having set the flag",
    "sleep without comparing": "a waiter sleeps although the word has changed",
    "sleep before the probe": "a waiter first sleeps, then probes",
    "no probe": "a waiter never asks whether the owner lives",
    "generation before byte": "a probe reads the generation first, then the byte",
    "generation before claim": "a newcomer stores its generation before it has the slot's byte",
    "word before generation": "a newcomer stores its generation when it is in",
    "same generation": "a newcomer keeps the generation of the slot's last owner",
    "no rebuild": "who takes over trusts what it finds",
    "damage cleared late": "the mark of damage is cleared after the rebuild",
    "no private mutex": "two threads of a process go for the word at the same time",
    "detached too late": "a process that leaves counts as attached until the lock is given back",
    "attached asked too early": "whether the process is attached is asked before the private mutex is had",
}


class Process(NamedTuple):
    slot: int = NOBODY
    generation: int = 0
    attached: bool = False
    mutex: int = NOBODY  # the thread that holds the private mutex
    robbed: bool = False  # some code closed a descriptor of the segment, which dropped the record lock


class Thread(NamedTuple):
    process: int
    todo: tuple[str, ...]  # operations: "wait" and "try" are modes of lock_take; "join", "leave"
    at: str = "start"
    seen: Word = FREE
    generation: int = NOBODY  # read by a probe in the wrong order
    takeover: bool = False
    value: int = 0  # of the memory, as read inside
    excuse: bool = False  # a probe's answer "lives" was true at some moment


class State(NamedTuple):
    processes: tuple[Process, ...]
    threads: tuple[Thread, ...]
    word: Word
    bytes: tuple[int, ...]  # of each slot: the process that holds its record lock
    generations: tuple[int, ...]
    dirty: bool = False
    damaged: bool = False
    torn: bool = False
    stray: bool = False
    value: int = 0
    committed: int = 0  # what `value` must be, as long as no thread died inside
    deaths: int = 0
    robberies: int = 0
    fault: str = ""


Next = tuple[str, str, State]
"""The outcome of a step, its kind, and the state that it leads to."""


class Lock(Rules):
    """Some processes: for each the operations of its threads. `newcomers` have no slot yet, and there are `slots`."""

    mutants = MUTANTS

    def __init__(
        self,
        *processes: tuple[tuple[str, ...], ...],
        newcomers: int = 0,
        slots: int = 0,
        deaths: int = 0,
        robberies: int = 0,
    ) -> None:
        self.deaths = deaths
        self.robberies = robberies
        self.old = len(processes) - newcomers
        self.slots = slots or len(processes)
        self.programs = processes
        self.threaded = any(len(threads) > 1 for threads in processes)

    @property
    def hopes(self) -> tuple[Hope, ...]:
        return (
            Hope(
                "nobody died, and only a time-out helps",
                lambda s: s.deaths == 0,
                all_done,
                frozenset({"time", "death"}),
            ),
            Hope("not even a time-out helps", lambda s: True, all_done, frozenset({"death"})),
            Hope(
                "who comes after a death does not get past the dead without a time-out",
                self.meets_dead_owner,
                self.owner_lives,
                frozenset({"time", "death"}),
            ),
        )

    def initial(self) -> State:
        old, slots = self.old, self.slots
        return State(
            processes=tuple(Process(n, 0, True) if n < old else Process() for n in range(len(self.programs))),
            threads=tuple(
                Thread(n, todo, self.first(todo)) for n, threads in enumerate(self.programs) for todo in threads
            ),
            word=FREE,
            bytes=tuple(n if n < old else NOBODY for n in range(slots)),
            generations=(0,) * slots,
        )

    # What every state must hold

    def wrong(self, s: State) -> str | None:
        if s.fault:
            return s.fault
        inside = [t for t in s.threads if t.at in INSIDE and not s.processes[t.process].robbed]
        if len(inside) > 1:
            return f"two owners: processes {', '.join(str(t.process) for t in inside)}"
        if s.stray and not s.damaged and not self._will_be_noticed(s):
            return "somebody stored without being the owner, and nobody will repair it"
        return None

    def _will_be_noticed(self, s: State) -> bool:
        """A robbed owner is about to notice (or died before it could), or the next owner rebuilds anyway."""
        return any(
            (s.processes[t.process].robbed and t.at in (*INSIDE, "damage", "dead"))
            or t.at in ("mark_rebuild", "rebuild")
            or (t.at == "taken" and t.takeover)
            for t in s.threads
        )

    def is_dead(self, s: State, word: Word) -> bool:
        slot = word[0] - 1
        return slot >= 0 and (s.bytes[slot] == NOBODY or s.generations[slot] != word[1])

    def meets_dead_owner(self, s: State) -> bool:
        comes = any(t.at in ("fast", "load", "probe_byte") for t in s.threads)
        return comes and self.is_dead(s, s.word) and s.robberies == 0

    def owner_lives(self, s: State) -> bool:
        return not self.is_dead(s, s.word)

    # Which thread may run next

    def steps(self, s: State) -> Iterator[Step]:
        for i, t in enumerate(s.threads):
            if t.at in ENDED:
                continue
            step = getattr(self, t.at)
            what = (step.__doc__ or t.at).strip().split("\n")[0]
            for outcome, kind, state in step(s, i, t):
                yield Step(f"{_name(s, i)}: {what}{': ' * bool(outcome)}{outcome}", kind, state)
        for n, process in enumerate(s.processes):
            if not any(t.process == n and t.at not in ENDED for t in s.threads):
                continue
            if s.deaths < self.deaths:
                yield Step(f"process {n} dies", "death", self._dies(s, n))
            is_inside = any(t.process == n and t.at in INSIDE for t in s.threads)
            if n == 0 and is_inside and s.robberies < self.robberies:  # 0 for all, which are alike
                robbed = put(s.processes, n, process._replace(robbed=True))
                freed = tuple(NOBODY if holder == n else holder for holder in s.bytes)
                state = s._replace(processes=robbed, bytes=freed, robberies=s.robberies + 1)
                yield Step(f"process {n} loses its record lock: some code closed a descriptor", "death", state)

    def _dies(self, s: State, n: int) -> State:
        threads = tuple(Thread(n, (), "dead") if t.process == n and t.at not in ENDED else t for t in s.threads)
        was_inside = any(t.process == n and t.at in INSIDE for t in s.threads)
        return s._replace(
            threads=threads,
            processes=put(s.processes, n, Process(robbed=s.processes[n].robbed)),
            bytes=tuple(NOBODY if holder == n else holder for holder in s.bytes),
            committed=NOBODY if was_inside else s.committed,
            deaths=s.deaths + 1,
        )

    # Helpers: the next step of a thread

    def to(self, s: State, i: int, at: str, outcome: str = "", kind: str = "", **seen: object) -> Next:
        return outcome, kind, s._replace(threads=put(s.threads, i, s.threads[i]._replace(at=at, **seen)))

    def mine(self, s: State, t: Thread) -> Word:
        process = s.processes[t.process]
        return (process.slot + 1, process.generation, False)

    def swap(self, s: State, expected: Word, new: Word) -> State | None:
        return s._replace(word=new) if s.word == expected else None

    def first(self, todo: tuple[str, ...]) -> str:
        """Where the next operation begins. A process of one thread needs no private mutex."""
        if not todo:
            return "done"
        if todo[0] == "join":
            return "store_generation" if self.without == "generation before claim" else "claim"
        if self.threaded and self.without != "no private mutex":
            return "attached" if self.without == "attached asked too early" else "take_private"
        return "fast"

    # segment.c: joining

    def claim(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """liveness_claim: takes the byte of a slot"""
        process = s.processes[t.process]
        if NOBODY not in s.bytes:
            yield self.to(s, i, "done", "all are taken")
        for slot, holder in enumerate(s.bytes):
            if holder != NOBODY or process.slot not in (NOBODY, slot):
                continue
            generation = process.generation or s.generations[slot] + (self.without != "same generation")
            claimed = s._replace(
                bytes=put(s.bytes, slot, t.process),
                processes=put(
                    s.processes, t.process, process._replace(slot=slot, generation=generation, attached=True)
                ),
            )
            has_stored = s.generations[slot] == generation
            late = self.without == "word before generation"
            yield self.to(claimed, i, "fast" if has_stored or late else "store_generation", f"slot {slot}")

    def store_generation(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """segment_join: stores the slot's new generation"""
        process = s.processes[t.process]
        if process.slot == NOBODY:  # the mutant, which has no byte yet
            for slot in range(self.slots):
                generation = s.generations[slot] + 1
                new = process._replace(slot=slot, generation=generation)
                state = s._replace(
                    generations=put(s.generations, slot, generation), processes=put(s.processes, t.process, new)
                )
                yield self.to(state, i, "claim", f"slot {slot}")
            return
        at = "change" if self.without == "word before generation" else "fast"
        yield self.to(s._replace(generations=put(s.generations, process.slot, process.generation)), i, at)

    # lock.c: lock_take, and linux/exclusion.c: exclusion_take

    def attached(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """lock_take: is this process attached?"""
        if self.without == "attached asked too early" and not s.processes[t.process].attached:
            yield self.to(s, i, "done", "no: DETACHED")
        else:
            yield self.to(s, i, "take_private")

    def take_private(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """take_private: the process's mutex, then: is this process attached?"""
        process = s.processes[t.process]
        if process.mutex != NOBODY:
            return
        if not process.attached and self.without != "attached asked too early":
            yield self.to(s, i, "done", "no: DETACHED")
        else:
            yield self.to(s._replace(processes=put(s.processes, t.process, process._replace(mutex=i))), i, "fast")

    def fast(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """take_word: swaps 'free' for its own word"""
        state = self.swap(s, FREE, self.mine(s, t))
        if state is not None:
            yield self.to(state, i, "taken", "has it", takeover=False)
        elif t.todo[0] == "try":
            yield self.to(s, i, "fast_waiters") if s.word == FREE_WAITERS else self.busy(s, i, "not free")
        else:
            yield self.to(s, i, "load", "not free")

    def fast_waiters(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """take_word, TRY: swaps 'free, somebody may sleep' for its own word with that flag"""
        mine = self.mine(s, t)
        state = self.swap(s, FREE_WAITERS, (*mine[:2], self.without != "try drops the flag"))
        if state is not None:
            yield self.to(state, i, "taken", "has it", takeover=False)
        else:
            yield self.busy(s, i, "changed")

    def busy(self, s: State, i: int, outcome: str, kind: str = "") -> Next:
        """BUSY: the private mutex is released, and the caller tries again, and now waits."""
        todo = s.threads[i].todo
        todo = ("wait", *todo[1:]) if todo[0] == "try" else todo
        at = "fast" if todo[0] == "join" else self.first(todo)
        return self.to(self._without_mutex(s, i), i, at, outcome, kind, todo=todo, seen=FREE, generation=NOBODY)

    def _without_mutex(self, s: State, i: int) -> State:
        process = s.threads[i].process
        return s._replace(processes=put(s.processes, process, s.processes[process]._replace(mutex=NOBODY)))

    def load(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """take_word: reads the word"""
        first = "flag" if self.without in ("no probe", "sleep before the probe") else "probe_byte"
        if self.without == "generation before byte":
            first = "probe_generation"
        if s.word[0] == 0:
            yield self.to(s, i, "take_free", "free", seen=s.word)
        elif (*s.word[:2], False) == self.mine(s, t):
            yield self.to(s, i, "take_over", "its own: a thread vanished", seen=s.word)
        else:
            yield self.to(s, i, first, f"slot {s.word[0] - 1}", seen=s.word, excuse=False)

    def take_free(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """take_word: swaps 'free' for its own word with the flag"""
        mine = self.mine(s, t)
        state = self.swap(s, t.seen, (*mine[:2], self.without != "no waiters flag"))
        if state is not None:
            yield self.to(state, i, "taken", "has it", takeover=False, seen=FREE)
        else:
            yield self.to(s, i, "load", "changed")

    # liveness.c: liveness_is_dead

    def _lived(self, s: State, seen: Word) -> bool:
        """Whether 'it lives' is a correct answer now: it does, or a newcomer has its byte and will publish itself."""
        slot = seen[0] - 1
        return s.bytes[slot] != NOBODY and s.generations[slot] == seen[1]

    def probe_byte(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """liveness_is_dead: asks for the record lock on the owner's byte"""
        slot = t.seen[0] - 1
        excuse = t.excuse or self._lived(s, t.seen)
        if s.bytes[slot] in (NOBODY, t.process):
            yield self.to(s, i, "take_over", "free: dead", generation=NOBODY)
        elif self.without == "generation before byte":
            yield from self._answer(s, i, t._replace(excuse=excuse), t.generation)
        else:
            yield self.to(s, i, "probe_generation", "held", excuse=excuse)

    def probe_generation(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """liveness_is_dead: reads the slot's generation"""
        slot = t.seen[0] - 1
        excuse = t.excuse or self._lived(s, t.seen)
        if self.without == "generation before byte":
            yield self.to(s, i, "probe_byte", generation=s.generations[slot], excuse=excuse)
        else:
            yield from self._answer(s, i, t._replace(excuse=excuse), s.generations[slot])

    def _answer(self, s: State, i: int, t: Thread, generation: int) -> Iterator[Next]:
        if generation != t.seen[1]:
            yield self.to(s, i, "take_over", "another: dead", generation=NOBODY)
        elif not t.excuse and s.robberies == 0:
            yield self.to(s._replace(fault="a probe says that the owner lives, who was dead all the time"), i, "flag")
        else:
            yield self.to(s, i, "flag", "lives", generation=NOBODY, excuse=False)

    def take_over(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """take_word: swaps the word that it probed for its own, with the flag"""
        mine = (*self.mine(s, t)[:2], True)
        expected = t.seen
        if self.without == "takeover stores" or (self.without == "takeover of another word" and s.word[0] != 0):
            expected = s.word
        state = self.swap(s, expected, mine)
        if state is not None:
            yield self.to(state, i, "taken", "has it", takeover=True, seen=FREE, excuse=False)
        else:
            yield self.to(s, i, "load", "changed", excuse=False)

    def flag(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """take_word: swaps the owner's word for the same with the flag"""
        flagged = (*t.seen[:2], True)
        yield self.busy(s, i, "its time is over", "time")
        if t.seen == flagged or self.without == "sleep without the flag":
            yield from self.sleep(s, i, t)
        else:
            state = self.swap(s, t.seen, flagged)
            yield self.to(state or s, i, "sleep" if state else "load", "" if state else "changed", seen=flagged)

    def sleep(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """futex_wait: sleeps if the word is still that one"""
        if s.word == t.seen or self.without == "sleep without comparing":
            yield self.to(s, i, "asleep", "sleeps")
        else:
            yield self.to(s, i, "load", "changed")

    def asleep(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """futex_wait: 50 ms are over"""
        yield self.to(
            s, i, "probe_byte" if self.without == "sleep before the probe" else "load", "", "time", excuse=True
        )

    # lock.c: lock_take, with the lock

    def taken(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """lock_take: taken over, dirty or damaged?"""
        repair = (t.takeover or s.dirty or s.damaged) and self.without != "no rebuild"
        yield self.to(s, i, "mark_rebuild" if repair else "mark", "yes" if repair else "no", seen=FREE, takeover=repair)

    def mark_rebuild(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """lock_take: stores dirty; recovery_rebuild: clears damaged, before all else"""
        damaged = s.damaged and self.without == "damage cleared late"
        yield self.to(s._replace(dirty=True, damaged=damaged), i, "rebuild")

    def rebuild(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """recovery_rebuild: begins; what it finds is repaired"""
        yield self.to(s._replace(torn=True, stray=False), i, "rebuilt")

    def rebuilt(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """recovery_rebuild: ends"""
        damaged = s.damaged and self.without != "damage cleared late"
        yield self.to(s._replace(torn=False, damaged=damaged), i, "mark")

    def mark(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """lock_take: stores dirty; the operation begins"""
        if s.torn and s.robberies == 0:
            s = s._replace(fault="an operation finds what another one left half done")
        late = self.without == "word before generation" and t.todo[0] == "join"
        yield self.to(s._replace(dirty=True), i, "store_generation" if late else "change")

    # operations.c

    def _is_owner(self, s: State, t: Thread) -> bool:
        return (*s.word[:2], False) == self.mine(s, t)

    def change(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """operation: reads, and changes what is derived"""
        state = s._replace(torn=True) if self._is_owner(s, t) else s._replace(stray=True)
        yield self.to(state, i, "commit", value=s.value)

    def commit(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """operation: its commit"""
        if not self._is_owner(s, t):
            state = s._replace(stray=True)
        else:
            state = s._replace(torn=False, value=t.value + 1)
            if s.committed != NOBODY and s.robberies == 0:
                state = state._replace(committed=s.committed + 1)
                if state.value != state.committed:
                    state = state._replace(fault="an operation overwrote what another one had committed")
        if t.todo[0] == "leave" and self.without != "detached too late":
            state = self._detached(state, t)
        yield self.to(state, i, "unmark", value=0)

    def _detached(self, s: State, t: Thread) -> State:
        return s._replace(processes=put(s.processes, t.process, s.processes[t.process]._replace(attached=False)))

    # lock.c: lock_give, and linux/exclusion.c: exclusion_give

    def unmark(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """lock_give: clears dirty"""
        yield self.to(s._replace(dirty=False), i, "give")

    def give(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """exclusion_give: swaps its own word for 'free'"""
        mine = self.mine(s, t)
        if self.without == "unlock stores":
            yield self.to(s._replace(word=FREE), i, "wake") if s.word[2] else self.given(s._replace(word=FREE), i)
            return
        state = self.swap(s, mine, FREE)
        if state is not None:
            yield self.given(state, i, "nobody waits")
        elif s.word == (*mine[:2], True):
            yield self.to(s, i, "give_waiters", "somebody may sleep")
        else:
            yield self.to(s, i, "damage", "it is another's")

    def give_waiters(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """exclusion_give: swaps its own word with the flag for 'free, somebody may sleep'"""
        free = FREE if self.without == "unlock clears the flag" else FREE_WAITERS
        state = self.swap(s, (*self.mine(s, t)[:2], True), free)
        yield self.to(state or s, i, "wake" if state else "damage", "" if state else "it is another's")

    def wake(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """exclusion_give: futex_wake_one"""
        sleepers = [n for n, other in enumerate(s.threads) if other.at == "asleep"]
        for n in sleepers:
            woken = s._replace(threads=put(s.threads, n, s.threads[n]._replace(at="load")))
            yield self.given(woken, i, f"wakes {_name(s, n)}")
        if not sleepers:
            yield self.to(s, i, "unflag", "nobody slept")

    def unflag(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """exclusion_give: swaps 'free, somebody may sleep' for 'free'"""
        state = self.swap(s, FREE_WAITERS, FREE)
        yield self.given(state or s, i, "" if state else "changed")

    def damage(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """exclusion_give: stores damaged"""
        yield self.given(s._replace(damaged=True), i)

    def given(self, s: State, i: int, outcome: str = "") -> Next:
        """The lock is released, the private mutex too, and the operation is over."""
        todo = s.threads[i].todo
        at = "leave" if todo[0] == "leave" else self.first(todo[1:])
        return self.to(self._without_mutex(s, i), i, at, outcome, todo=todo[1:], seen=FREE, takeover=False)

    # segment.c: leaving

    def leave(self, s: State, i: int, t: Thread) -> Iterator[Next]:
        """segment_leave: gives the slot's byte back"""
        slot = s.processes[t.process].slot
        state = self._detached(s._replace(bytes=put(s.bytes, slot, NOBODY)), t)
        yield self.to(state, i, "done")


def all_done(s: State) -> bool:
    return all(t.at in ENDED for t in s.threads)


def _name(s: State, i: int) -> str:
    t = s.threads[i]
    others = [n for n, other in enumerate(s.threads) if other.process == t.process]
    return f"process {t.process}" + (f" thread {others.index(i)}" if len(others) > 1 else "")
