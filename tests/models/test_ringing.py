"""Sleeping and ringing loses no message and no wake, in every interleaving, and each of its rules is needed."""

from __future__ import annotations

import pytest

from tests.models.explorer import explore
from tests.models.ringing import MUTANTS, Ringing

X, Y = ("X", 1), ("Y", 1)
SCENARIOS = {
    "two channels": Ringing(readers=((X, Y),), writers=(("X", "Y"), ("Y",)), cancels=1),
    "two consumers": Ringing(readers=((X, X),), writers=(("X",), ("X",)), cancels=1),
    "two readers": Ringing(readers=((X,), (X,)), writers=(("X",),), cancels=1),
    "two messages": Ringing(readers=((X,), (X,)), writers=(("X", "X"),), clock=False),
    "deaths": Ringing(readers=((("X", 2),),), writers=(("X",), ("X",)), deaths=1),
    "deaths of readers": Ringing(readers=((X,), (X,)), writers=(("X",),), deaths=1),
    "deaths under the lock": Ringing(readers=((X,),), writers=(("X",), ("",), ("X",)), deaths=1),
}
"""What consumers and writers do, and what may happen to them."""

CAUGHT_BY = {
    "mark before the write": "deaths",
    "mark by store": "two consumers",
    "mark whatever the sleep": "two consumers",
    "no last look": "two consumers",
    "last look before": "two consumers",
    "asleep stays": "two channels",
    "oldest waiter": "deaths of readers",
    "no next": "two consumers",
    "no next on cancel": "two readers",
    "no look around": "deaths",
    "own rings only": "deaths under the lock",
    "rebuild unnoticed": "deaths",
    "two steps": "two readers",
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ringing(scenario: str) -> None:
    report = explore(SCENARIOS[scenario])
    assert not report.wrong, report


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_rule_is_needed(mutant: str) -> None:
    report = explore(SCENARIOS[CAUGHT_BY[mutant]].mutant(mutant))
    assert report.wrong
    assert report.trace
