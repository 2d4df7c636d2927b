"""The scenarios of each protocol, and which of them shows the fault without one of its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.models import lock, registration, ringing, stream
from tests.models.lock import Lock
from tests.models.registration import Registration
from tests.models.ringing import Ringing
from tests.models.stream import Stream

AnyModel = Lock | Ringing | Stream | Registration


@dataclass(frozen=True)
class Protocol:
    """One protocol, with the scenarios of its model."""

    scenarios: Mapping[str, AnyModel]
    """What each process does, and what may happen to it."""
    mutants: Mapping[str, str]
    """What the protocol without one of its rules does."""
    caught_by: Mapping[str, str]
    """Mutant -> the scenario that finds it."""

    def mutant(self, name: str) -> AnyModel:
        """The model without that rule, where that shows."""
        return self.scenarios[self.caught_by[name]].mutant(name)


WAIT, JOIN = ("wait",), ("join",)
X, Y = ("X", 1), ("Y", 1)
STAYS, LEAVES, RETURNS = ("join",), ("join", "leave"), ("join", "leave", "join")

PROTOCOLS = {
    "the lock": Protocol(
        scenarios={
            "three processes": Lock((WAIT,), (WAIT,), (("try",),), deaths=1),
            "second deaths": Lock((WAIT,), (WAIT,), (WAIT,), deaths=2),
            "come again": Lock((("wait", "try"),), (WAIT,), (WAIT,)),
            "slot reuse": Lock((WAIT,), (WAIT,), (JOIN,), newcomers=1, slots=2, deaths=2),
            "lost record lock": Lock((WAIT,), (WAIT,), (WAIT,), robberies=1),
            "threads": Lock((("leave",), WAIT), (WAIT,), deaths=1),
        },
        mutants=lock.MUTANTS,
        caught_by={
            "takeover stores": "three processes",
            "takeover of another word": "three processes",
            "unlock stores": "lost record lock",
            "no waiters flag": "second deaths",
            "unlock clears the flag": "come again",
            "try drops the flag": "come again",
            "sleep without the flag": "slot reuse",
            "sleep without comparing": "slot reuse",
            "sleep before the probe": "slot reuse",
            "no probe": "slot reuse",
            "generation before byte": "slot reuse",
            "generation before claim": "slot reuse",
            "word before generation": "slot reuse",
            "same generation": "slot reuse",
            "no rebuild": "second deaths",
            "damage cleared late": "lost record lock",
            "no private mutex": "threads",
            "detached too late": "threads",
            "attached asked too early": "threads",
        },
    ),
    "sleeping and ringing": Protocol(
        scenarios={
            "two channels": Ringing(readers=((X, Y),), writers=(("X", "Y"), ("Y",)), cancels=1),
            "two consumers": Ringing(readers=((X, X),), writers=(("X",), ("X",)), cancels=1),
            "two readers": Ringing(readers=((X,), (X,)), writers=(("X",),), cancels=1),
            "two messages": Ringing(readers=((X,), (X,)), writers=(("X", "X"),), clock=False),
            "deaths": Ringing(readers=((("X", 2),),), writers=(("X",), ("X",)), deaths=1),
            "deaths of readers": Ringing(readers=((X,), (X,)), writers=(("X",),), deaths=1),
            "a reader's death": Ringing(readers=((X,), (X,)), writers=(("X", "X"),), deaths=1, mortal=0, clock=False),
            "two looks": Ringing(readers=((("X", 2), Y),), writers=(("X", "Y"),)),
            "deaths under the lock": Ringing(readers=((X,),), writers=(("X",), ("",), ("X",)), deaths=1),
        },
        mutants=ringing.MUTANTS,
        caught_by={
            "mark before the write": "deaths",
            "mark by store": "two consumers",
            "mark whatever the sleep": "two consumers",
            "no last look": "two consumers",
            "last look before": "two consumers",
            "asleep stays": "two channels",
            "oldest waiter": "a reader's death",
            "no next": "two consumers",
            "no next on cancel": "two readers",
            "no housekeeping": "deaths",
            "own wakeups only": "deaths under the lock",
            "rebuild unnoticed": "deaths",
            "sleeps over it": "two looks",
            "own wake unheard": "two consumers",
            "two steps": "two readers",
        },
    ),
    "a machine's stream": Protocol(
        scenarios={
            "a stream": Stream(3, trims=True),
            "a reader dies": Stream(3, deaths=1, trims=True),
            "no room": Stream(2, full=1),
            "a flush": Stream(2, flushes=1),
            "a lost flush": Stream(2, readers=1, flushes=1, failovers=1),
            "a lost key": Stream(3, key_losses=1),
            "all data lost": Stream(3, wipes=1),
            "a failover": Stream(3, failovers=1),
            "a failover and a death": Stream(2, failovers=1, deaths=1, trims=True),
            "two failovers": Stream(2, failovers=2),
            "a move": Stream(2, moves=1),
            "a mover dies": Stream(2, moves=1, deaths=1),
            "two moves": Stream(2, moves=2),
            "a move and a flush": Stream(2, moves=1, flushes=1),
            "a move and a failover": Stream(2, moves=1, failovers=1),
        },
        mutants=stream.MUTANTS,
        caught_by={
            "done first": "a reader dies",
            "no position": "a stream",
            "two steps": "a stream",
            "no turn": "a failover",
            "reads before it renews": "a failover",
            "another server is no news": "a failover",
            "lost ids unnoticed": "a lost key",
            "last id against the present position": "a stream",
            "position set blindly": "a lost key",
            "old answer counts": "a lost key",
            "from the start": "a lost flush",
            "to the end": "a lost flush",
            "another incarnation is no news": "all data lost",
            "flush to the end": "a flush",
            "old epoch refused": "a flush",
            "old epoch done": "a flush",
            "new epoch done": "a flush",
            "epoch only rises": "a lost flush",
            "empty stream expires": "a stream",
            "flush deletes the stream": "a flush",
            "trims what was read": "a stream",
            "full moves the position": "no room",
            "read before retired": "a move",
            "retired takes in": "a move",
            "position left behind": "a move",
            "unknown is the start": "a move",
            "end asked before": "a move",
        },
    ),
    "a machine's registration": Protocol(
        scenarios={
            "joins": Registration((LEAVES, STAYS), entries=2),
            "joins of two processes": Registration((LEAVES, STAYS), (STAYS,)),
            "late answers": Registration((LEAVES,), (RETURNS,)),
            "sweeps": Registration((LEAVES,), (STAYS,), sweeps=True),
            "processes die": Registration((LEAVES,), (LEAVES,), deaths=1, failures=1),
            "deadlines": Registration((STAYS,), (STAYS,), entries=0, ticks=6),
            "lost data": Registration(
                (LEAVES, STAYS), entries=0, renewers=1, losses=("data", "key", "flush", "tail"), deaths=1
            ),
            "lost twice": Registration(
                ((),), entries=0, renewers=2, losses=("flush",), most_losses=2, deaths=1, settled=True
            ),
            "lost data and late forgets": Registration((RETURNS,), entries=2, renewers=1, losses=("flush",)),
            "two renewers": Registration((LEAVES,), entries=0, renewers=2, losses=("key", "tail")),
            "a new segment": Registration((RETURNS,), entries=2, moves=1),
            "a new segment and lost data": Registration(
                (LEAVES, STAYS), entries=0, renewers=1, losses=("data", "key"), moves=1
            ),
        },
        mutants=registration.MUTANTS,
        caught_by={
            "answer believed": "joins",
            "T not above the old one": "late answers",
            "T not above the forgotten": "lost data and late forgets",
            "forgets any T": "joins",
            "forget first": "joins",
            "only the same record": "late answers",
            "no second forget": "processes die",
            "late answer stored": "joins",
            "R of the answer": "lost data",
            "R not compared": "lost data",
            "key from the start": "lost data",
            "R before the key": "lost data",
            "R plus one": "lost twice",
            "walked at once": "lost data",
            "walked whatever R": "lost twice",
            "walks are not finished": "lost data",
            "another server is no news": "lost data",
            "forgotten T left behind": "a new segment",
            "record to its end": "deadlines",
        },
    ),
}
