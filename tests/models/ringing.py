"""A model of sleeping and ringing: `waiters.c`, `reading.c`, `doorbells.c`, `binding_common.c`, `wait_set.py`.

A critical section is one step here, as the model of the lock allows; a process that dies in one leaves it either
without effect or with the message stored and nobody told, and the segment dirty. Whatever is done without the lock is a
step of its own: writing to a doorbell, marking a loop as rung, emptying the doorbell.

A *reader* is a process with one event loop: its wait set, and some consumers (coroutines), each of which takes a number
of messages from one channel. In what order a loop runs what can run is left open, so this holds for any. A *writer* is
a process that pushes to channels, or, for "", does something else under the lock.

A stopped reader is like one that is dead: nothing takes the dead out here (in truth a sender does that after 250 ms,
which only helps). And no doorbell is ever lost, which is what the marks of rung loops grow old for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.models.explorer import Hope, Rules, Step, put

AWAKE, ASLEEP, RUNG = "AWAKE", "ASLEEP", "RUNG"

MUTANTS = {
    "mark before the write": "a loop is marked as rung before its doorbell is written",
    "mark by store": "a loop is marked as rung whatever it does by now",
    "mark whatever the sleep": "a loop is marked as rung although it has slept anew since",
    "no last look": "a loop goes to sleep without a last look",
    "last look before": "the last look and going to sleep are two critical sections",
    "asleep stays": "a loop that finds nothing stays as it is: rung, or in the same sleep",
    "oldest waiter": "the oldest waiter is woken, asleep or not",
    "no next": "a pop that leaves messages wakes nobody",
    "no next on cancel": "a cancelled wait wakes nobody",
    "no housekeeping": "a sleeping loop does not look for itself",
    "own wakeups only": "after a rebuild only who has somebody to ring rings everybody",
    "rebuild unnoticed": "a loop does not compare the number of rebuilds",
    "sleeps over it": "a pop that finds nothing goes to sleep although another channel is ready",
    "own wake unheard": "a loop that sleeps, and is woken by its own process, does not look",
    "two steps": "a pop reads the head in one critical section and takes it in another",
}


class Consumer(NamedTuple):
    channel: int
    wants: int
    at: str = "looks"  # "looks", "waits", "woken", "done"


class Actor(NamedTuple):
    """A reader, or, without consumers, a writer."""

    consumers: tuple[Consumer, ...] = ()
    todo: tuple[str, ...] = ()  # of a writer: what it does next, a channel's letter or ""
    at: str = "idle"
    wakeups: tuple[tuple[int, bool], ...] = ()  # the loop to ring, and whether that loop has not slept again since
    head: int = 0  # what the mutant "two steps" has read
    # of a reader: its wait set
    settling: bool = False
    asleep: bool = False  # it has gone to sleep, and was not woken since
    stale: frozenset[int] = frozenset()
    rebuilds: int = 0
    # of a reader: its loop's place in the segment, which stays when the process dies
    state: str = AWAKE
    is_void: bool = False
    ready: tuple[int, ...] = ()
    bell: bool = False


class State(NamedTuple):
    actors: tuple[Actor, ...]
    queues: tuple[tuple[int, ...], ...]  # of each channel: numbers of the messages
    waiters: tuple[tuple[int, ...], ...]  # of each channel: the loops, oldest first
    sent: int = 0
    taken: tuple[int, ...] = ()
    dirty: bool = False
    rebuilds: int = 0
    dead_writers: int = 0
    dead_readers: int = 0
    dead_ringers: int = 0  # died with a loop to ring after a rebuild
    cancels: int = 0
    fault: str = ""


class Ringing(Rules):
    """`readers`: for each its consumers as (channel, messages); `writers`: for each what it does.

    Without the `clock` no time-out ever helps. With `mortal` only that reader may die, and not under the lock.
    """

    mutants = MUTANTS

    def __init__(
        self,
        readers: tuple[tuple[tuple[str, int], ...], ...],
        writers: tuple[tuple[str, ...], ...],
        deaths: int = 0,
        cancels: int = 0,
        clock: bool = True,
        mortal: int | None = None,
    ) -> None:
        self.readers = readers
        self.writers = writers
        self.deaths = deaths
        self.mortal = mortal
        self.clock = clock
        self.cancels = cancels
        self.channels = sorted({channel for consumers in readers for channel, _ in consumers})

    @property
    def hopes(self) -> tuple[Hope, ...]:
        alone, helped = frozenset({"time", "death", "cancel", "push"}), frozenset({"death", "cancel", "push"})
        return (
            Hope("nobody died, and a message lies there while its reader sleeps", _nobody_died, is_served, alone),
            Hope("a message lies there for longer than 250 ms", lambda s: self.clock, is_served, helped),
            Hope(
                "a writer died, and the next one's message does not wake the reader",
                self._more_will_come,
                is_served,
                frozenset({"time", "death", "cancel"}),
            ),
            Hope(
                "a reader died awake or rung, and another one that sleeps is not woken",
                self._another_sleeps,
                _all_is_sent,
                frozenset({"time", "death", "cancel"}),
            ),
            Hope("a rebuild is not noticed by all at once", _rebuild_is_told, is_registered, alone),
        )

    def initial(self) -> State:
        readers = tuple(
            Actor(consumers=tuple(Consumer(self.channels.index(channel), wants) for channel, wants in consumers))
            for consumers in self.readers
        )
        nothing: tuple[tuple[int, ...], ...] = ((),) * len(self.channels)
        return State((*readers, *(Actor(todo=todo) for todo in self.writers)), nothing, nothing)

    def wrong(self, s: State) -> str | None:
        if s.fault:
            return s.fault
        if len(set(s.taken)) < len(s.taken):
            return "a message was taken twice"
        for n in range(len(self.readers)):
            if is_parked(s, n) and s.actors[n].state == RUNG and not s.actors[n].bell:
                return f"reader {n} counts as rung and sleeps, with nothing in its doorbell"
        return None

    def _more_will_come(self, s: State) -> bool:
        """Only writers died, and one that lives will push once more to each channel that has a sleeping reader."""
        left = {self.channels.index(channel) for a in s.actors if a.at != "dead" for channel in a.todo if channel}
        return s.dead_readers == 0 and s.dead_writers > 0 and unserved(s) <= left

    def _another_sleeps(self, s: State) -> bool:
        sleepers = {
            c.channel
            for n, a in enumerate(s.actors)
            if a.state == ASLEEP and is_parked(s, n)
            for c in a.consumers
            if c.at == "waits" and n in s.waiters[c.channel] and not s.queues[c.channel]
        }
        dead = [a.state for a in s.actors[: len(self.readers)] if a.at == "dead"]
        return bool(dead) and ASLEEP not in dead and not s.dirty and sleepers == set(range(len(self.channels)))

    # Which process may run next

    def steps(self, s: State) -> Iterator[Step]:
        for n, a in enumerate(s.actors):
            if a.at == "dead":
                continue
            is_reader = n < len(self.readers)
            name = f"reader {n}" if is_reader else f"writer {n - len(self.readers)}"
            for what, kind, state in self._next(s, n, a):
                yield Step(f"{name} {what}", kind, state)
            if s.dead_readers + s.dead_writers < self.deaths and self.mortal in (None, n) and not _is_over(a):
                yield Step(f"{name} dies", "death", self._dies(s, n))
            if a.state == RUNG and not a.is_void and self.clock:
                yield Step(f"{name}: its mark is older than 20 ms", "time", self.change(s, n, is_void=True))

    def _next(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        if a.at != "idle":
            yield from getattr(self, a.at)(s, n, a)
        elif n >= len(self.readers):
            if a.todo:
                yield from self.push(s, n, a)
        else:
            yield from self._turn(s, n, a)

    def _may_die_inside(self, s: State) -> bool:
        return self.mortal is None and s.dead_readers + s.dead_writers < self.deaths

    def _dies(self, s: State, n: int) -> State:
        a = s.actors[n]
        is_reader = n < len(self.readers)
        state = self.change(
            s, n, at="dead", consumers=(), todo=(), wakeups=(), settling=False, stale=frozenset(), head=0
        )
        return state._replace(
            dead_writers=s.dead_writers + (not is_reader),
            dead_readers=s.dead_readers + is_reader,
            dead_ringers=s.dead_ringers + bool(a.wakeups),
        )

    def change(self, s: State, n: int, **what: object) -> State:
        return s._replace(actors=put(s.actors, n, s.actors[n]._replace(**what)))

    # Critical sections

    def enter(self, s: State, n: int, *, wakeups: bool = True) -> State:
        """lock_take: a dirty segment is rebuilt, which forgets who waits; everybody is to be rung."""
        if not s.dirty:
            return s
        nobody: tuple[tuple[int, ...], ...] = ((),) * len(self.channels)
        actors = tuple(a._replace(ready=()) for a in s.actors)
        state = s._replace(actors=actors, waiters=nobody, dirty=False, rebuilds=s.rebuilds + 1)
        if self.without == "own wakeups only" and not wakeups:
            return state
        return self.change(state, n, wakeups=tuple((reader, True) for reader in range(len(self.readers))))

    def wake_waiter(self, s: State, n: int, channel: int) -> State:
        """waiters_wake: chooses a loop, puts the channel on its ready list, and notes whom to ring."""
        best, best_rank = -1, 0
        for reader in s.waiters[channel]:
            rank = self.rank(s.actors[reader], channel)
            if rank > best_rank:
                best, best_rank = reader, rank
            if rank == 5 or self.without == "oldest waiter":
                break
        if best < 0:
            return s
        a = s.actors[best]
        if channel not in a.ready:
            s = self.change(s, best, ready=(*a.ready, channel))
        if a.state == ASLEEP or best_rank == 1:
            if best != n:
                s = self.change(s, n, wakeups=(*s.actors[n].wakeups, (best, True)))
            elif self.without != "own wake unheard":
                s = self.change(s, n, asleep=False, settling=True)  # wake_loops, without its doorbell
        return s

    def rank(self, a: Actor, channel: int) -> int:
        """rank_of"""
        if a.state == ASLEEP:
            return 4 if channel in a.ready else 5
        if a.state == AWAKE:
            return 3
        return 1 if a.is_void else 2

    # A writer

    def push(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        what, todo = a.todo[0], a.todo[1:]
        inside = self.change(self.enter(s, n, wakeups=bool(what)), n, todo=todo)
        dies = self._may_die_inside(s)
        if dies:
            state = self._dies(inside, n)._replace(dirty=True)
            yield "dies in op_push, before its commit" if what else "dies under the lock", "death", state
        if not what:
            yield "group_add", "push", self.out(inside, n)
            return
        channel = self.channels.index(what)
        number = s.sent
        stored = inside._replace(queues=put(s.queues, channel, (*s.queues[channel], number)), sent=number + 1)
        if dies:
            yield "dies in op_push, after its commit", "death", self._dies(stored, n)._replace(dirty=True)
        yield f"op_push to {what}", "push", self.out(self.wake_waiter(stored, n, channel), n)

    # Ringing, without the lock

    def out(self, s: State, n: int) -> State:
        """The lock was released: deliver_wakeups."""
        if not s.actors[n].wakeups:
            return self.change(s, n, at="idle")
        return self.change(s, n, at="mark" if self.without == "mark before the write" else "write")

    def write(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        reader = a.wakeups[0][0]
        state = self.change(s, reader, bell=True)
        if self.without == "mark before the write":
            yield f"doorbell_ring: rings reader {reader}", "", self.out(self.change(state, n, wakeups=a.wakeups[1:]), n)
        else:
            yield f"doorbell_ring: rings reader {reader}", "", self.change(state, n, at="mark")

    def mark(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        reader, is_same_sleep = a.wakeups[0]
        b = s.actors[reader]
        same = b.state == ASLEEP and is_same_sleep
        if self.without == "mark by store" or (self.without == "mark whatever the sleep" and b.state == ASLEEP):
            same = True
        state = self.change(s, reader, state=RUNG, is_void=False) if same else s
        outcome = "" if same else ", which has woken up since"
        if self.without == "mark before the write":
            yield f"wakeup_succeeded: marks reader {reader}{outcome}", "", self.change(state, n, at="write")
        else:
            after = self.out(self.change(state, n, wakeups=a.wakeups[1:]), n)
            yield f"wakeup_succeeded: marks reader {reader}{outcome}", "", after

    # A reader: one turn of its event loop

    def _turn(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        for i, consumer in enumerate(a.consumers):
            if consumer.at in ("looks", "woken"):
                yield from self.pop(s, n, i)
            if consumer.at in ("waits", "woken") and s.cancels < self.cancels:
                state = self.leave(s._replace(cancels=s.cancels + 1), n, i, is_cancelled=True)
                yield f"consumer {i} is cancelled", "cancel", state
        if a.settling and a.asleep and not a.stale and a.rebuilds == s.rebuilds:
            yield "_settle: it is asleep", "", self.change(s, n, settling=False)
        elif a.settling:
            yield from self.unwait(self.change(s, n, settling=False), n, a)
        if a.bell:
            yield "_on_ring: empties its doorbell", "", self.change(s, n, bell=False, asleep=False, at="unwait")
        if (
            any(consumer.at in ("waits", "woken") for consumer in a.consumers)
            and self.clock
            and self.without != "no housekeeping"
        ):
            state = self.enter(s, n, wakeups=False)
            b = state.actors[n]
            found = [
                c for c, waiters in enumerate(state.waiters) if n in waiters and state.queues[c] and c not in b.ready
            ]
            looked = self.change(state, n, ready=(*b.ready, *found), asleep=False, settling=True)
            if looked != s:
                yield "_repoll: 250 ms are over", "time", self.out(looked, n)

    def set_consumer(self, s: State, n: int, i: int, **what: object) -> State:
        consumers = s.actors[n].consumers
        return self.change(s, n, consumers=put(consumers, i, consumers[i]._replace(**what)))

    def leave(self, s: State, n: int, i: int, *, is_cancelled: bool) -> State:
        """WaitSet.receive: the clean-up of a consumer that has waited."""
        consumer = s.actors[n].consumers[i]
        was_woken = consumer.at == "woken"
        s = self.set_consumer(s, n, i, at="done")
        s = self.change(s, n, settling=True)
        if not self._is_awaited(s.actors[n], consumer.channel):
            return self.change(s, n, stale=s.actors[n].stale | {consumer.channel})
        return self.wake_consumer(s, n, consumer.channel) if is_cancelled and was_woken else s

    def _is_awaited(self, a: Actor, channel: int) -> bool:
        return any(c.channel == channel and c.at in ("waits", "woken") for c in a.consumers)

    def wake_consumer(self, s: State, n: int, channel: int) -> State:
        """WaitQueue.wake_next"""
        for i, consumer in enumerate(s.actors[n].consumers):
            if consumer.channel == channel and consumer.at == "waits":
                return self.set_consumer(s, n, i, at="woken")
        return s

    def pop(self, s: State, n: int, i: int) -> Iterator[tuple[str, str, State]]:
        """queue_pop, and what WaitSet.receive does with it"""
        consumer = s.actors[n].consumers[i]
        channel = consumer.channel
        if consumer.at == "looks" and self._is_awaited(s.actors[n], channel):
            joined = self.set_consumer(s, n, i, at="waits")  # behind earlier ones, for which the loop is registered
            yield f"consumer {i} joins those who wait", "", joined
            return
        inside = self.enter(s, n)
        if self._may_die_inside(s):
            yield "dies in op_pop, before its commit", "death", self._dies(inside, n)._replace(dirty=True)
        queue = inside.queues[channel]
        if not queue:
            waiters = inside.waiters[channel]
            if n not in waiters:
                inside = inside._replace(waiters=put(inside.waiters, channel, (*waiters, n)))
            state = self.set_consumer(inside, n, i, at="waits")
            if inside.actors[n].ready and self.without != "sleeps over it":
                state = self.change(state, n, asleep=False, settling=True)
                yield f"consumer {i}: op_pop: nothing there, its loop is registered", "", self.out(state, n)
            else:
                state = self.fall_asleep(state, n)
                yield f"consumer {i}: op_pop: nothing there, its loop is registered and ASLEEP", "", self.out(state, n)
            return
        if self.without == "two steps":
            state = self.change(inside, n, at="pop_second", head=queue[0] * 10 + i)
            yield f"consumer {i}: reads the head", "", state
            return
        yield from self._take(inside, n, i, queue[0])

    def pop_second(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        number, i = divmod(a.head, 10)
        yield from self._take(self.change(s, n, head=0, at="idle"), n, i, number)

    def _take(self, s: State, n: int, i: int, number: int) -> Iterator[tuple[str, str, State]]:
        consumer = s.actors[n].consumers[i]
        channel = consumer.channel
        left = s.queues[channel][1:]
        s = s._replace(queues=put(s.queues, channel, left), taken=(*s.taken, number))
        if self._may_die_inside(s):
            yield "dies in op_pop, after its commit", "death", self._dies(s, n)._replace(dirty=True)
        if left and self.without != "no next":
            s = self.wake_waiter(s, n, channel)
        if consumer.at == "woken":
            s = self.leave(s, n, i, is_cancelled=False)
        wants = consumer.wants - 1
        s = self.set_consumer(s, n, i, wants=wants, at="looks" if wants else "done")
        yield f"consumer {i}: op_pop: takes message {number}", "", self.out(s, n)

    # wait_set.py: _settle

    def unwait(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        """_unwait_stale"""
        a = s.actors[n]
        stale = [channel for channel in sorted(a.stale) if not self._is_awaited(a, channel)]
        if not stale:
            yield from self.collect(self.change(s, n, stale=frozenset()), n, a)
            return
        channel = stale[0]
        state = self.enter(s, n)
        waiters = state.waiters[channel]
        b = state.actors[n]
        state = self.change(state, n, stale=b.stale - {channel}, ready=tuple(c for c in b.ready if c != channel))
        if n in waiters:
            state = state._replace(waiters=put(state.waiters, channel, tuple(w for w in waiters if w != n)))
            if state.queues[channel] and self.without != "no next on cancel":
                state = self.wake_waiter(state, n, channel)
        # The settling continues where the wakeups are delivered; that makes no difference to the others.
        yield f"op_unwait of {self.channels[channel]}", "", self.change(self.out(state, n), n, settling=True)

    def collect(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        """loop_collect, with sleep"""
        if s.actors[n].asleep:
            yield "_settle: it is still asleep", "", self.compare(s, n)
            return
        state = self.enter(s, n, wakeups=False)
        a = state.actors[n]
        look = self.without not in ("no last look", "last look before")
        if self.without == "last look before" and a.at != "sleep" and not a.ready:
            yield "loop_collect: nothing there", "", self.change(state, n, at="sleep")
        elif not look or not a.ready:
            yield from self.sleep(state, n, a)
        else:
            names, stands = a.ready, self.change(state, n, state=AWAKE, is_void=False, ready=(), settling=True)
            for channel in names:
                stands = self.wake_consumer(stands, n, channel)
            yield "loop_collect: AWAKE, takes what is ready", "", self.compare(stands, n)

    def sleep(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        """loop_collect: ASLEEP"""
        yield "loop_collect: nothing there, ASLEEP", "", self.compare(self.fall_asleep(s, n), n)

    def fall_asleep(self, s: State, n: int) -> State:
        """loop_sleep, and what the wait set notes of it"""
        s = self.change(s, n, asleep=True)
        if self.without == "asleep stays" and s.actors[n].state != AWAKE:
            return s
        # Instead of a number for each sleep, which would have no end: a ringer for an older one knows it.
        for m, b in enumerate(s.actors):
            if (n, True) in b.wakeups:
                s = self.change(s, m, wakeups=tuple((r, same and r != n) for r, same in b.wakeups))
        return self.change(s, n, state=ASLEEP, is_void=False)

    def compare(self, s: State, n: int) -> State:
        """The number of rebuilds is read after the critical section: a step of its own where there can be rebuilds."""
        return self.change(s, n, at="compared") if self.deaths and self.mortal is None else self.out(s, n)

    def compared(self, s: State, n: int, a: Actor) -> Iterator[tuple[str, str, State]]:
        state = self.out(s, n)
        if a.rebuilds == s.rebuilds or self.without == "rebuild unnoticed":
            yield "_settle: no rebuild since", "", state
            return
        state = self.change(state, n, rebuilds=s.rebuilds, stale=frozenset(), asleep=False, settling=True)
        for channel in range(len(self.channels)):
            state = self.wake_consumer(state, n, channel)
        yield "_register_again: there was a rebuild", "", state


def _is_over(a: Actor) -> bool:
    """It does nothing more."""
    return not a.todo and not a.wakeups and all(consumer.at == "done" for consumer in a.consumers) and not a.settling


def _nobody_died(s: State) -> bool:
    return s.dead_readers == s.dead_writers == 0


def is_parked(s: State, n: int) -> bool:
    """Whether a reader waits in its selector, with nothing to run."""
    a = s.actors[n]
    return a.at == "idle" and not a.settling and all(consumer.at in ("waits", "done") for consumer in a.consumers)


def unserved(s: State) -> set[int]:
    """Channels with messages for which a consumer of a living process sleeps."""
    return {c.channel for a in s.actors for c in a.consumers if c.at == "waits" and s.queues[c.channel]}


def is_served(s: State) -> bool:
    return not unserved(s)


def _all_is_sent(s: State) -> bool:
    return is_served(s) and not any(a.todo for a in s.actors)


def _rebuild_is_told(s: State) -> bool:
    return s.dead_ringers == 0


def is_registered(s: State) -> bool:
    """Whether each living reader that sleeps has met the last rebuild."""
    return all(a.rebuilds == s.rebuilds for a in s.actors if a.at != "dead" and a.consumers)
