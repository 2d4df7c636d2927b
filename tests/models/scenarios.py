"""The scenarios of each protocol, and which of them shows the fault without one of its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.models import lock, ringing
from tests.models.lock import Lock
from tests.models.ringing import Ringing


@dataclass(frozen=True)
class Protocol:
    """One protocol, with the scenarios of its model."""

    scenarios: Mapping[str, Lock | Ringing]
    """What each process does, and what may happen to it."""
    mutants: Mapping[str, str]
    """What the protocol without one of its rules does."""
    caught_by: Mapping[str, str]
    """Mutant -> the scenario that finds it."""

    def mutant(self, name: str) -> Lock | Ringing:
        """The model without that rule, where that shows."""
        return self.scenarios[self.caught_by[name]].mutant(name)


WAIT, JOIN = ("wait",), ("join",)
X, Y = ("X", 1), ("Y", 1)

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
}
