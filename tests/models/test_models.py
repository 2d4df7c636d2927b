"""Each protocol holds in every interleaving, and each of its rules is needed: without it the model finds why.

`python -m tests.models` prints the states that were explored, and how each protocol without one of its rules fails.
"""

from __future__ import annotations

import pytest

from tests.models.explorer import explore
from tests.models.scenarios import PROTOCOLS
from tests.support.marks import thorough_unless

USUAL = (
    *("slot reuse", "threads"),
    *("two consumers", "two messages", "two looks"),
    *(
        "a stream",
        "a reader dies",
        "no room",
        "a flush",
        "a lost flush",
        "a lost key",
        "all data lost",
        "a failover",
        "a move",
    ),
    *("joins", "joins of two processes", "late answers", "sweeps", "processes die", "deadlines"),
    *("lost data", "lost twice", "a new segment"),
)
"""Scenarios that take little time."""


@pytest.mark.parametrize(
    ("protocol", "scenario"),
    [
        pytest.param(name, scenario, marks=thorough_unless(scenario in USUAL))
        for name, each in PROTOCOLS.items()
        for scenario in each.scenarios
    ],
)
def test_protocol(protocol: str, scenario: str) -> None:
    report = explore(PROTOCOLS[protocol].scenarios[scenario])
    assert not report.wrong, report


@pytest.mark.parametrize(
    ("protocol", "mutant"),
    [
        pytest.param(name, mutant, marks=thorough_unless(each.caught_by[mutant] in USUAL))
        for name, each in PROTOCOLS.items()
        for mutant in each.mutants
    ],
)
def test_each_rule_is_needed(protocol: str, mutant: str) -> None:
    report = explore(PROTOCOLS[protocol].mutant(mutant))
    assert report.wrong
    assert report.trace
