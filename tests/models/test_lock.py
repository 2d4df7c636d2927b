"""The lock's protocol holds in every interleaving, and each of its rules is needed: without it the model finds why.

`python -m tests.models` prints what was gone through, and how each protocol without one of its rules fails.
"""

from __future__ import annotations

import pytest

from tests.models.explorer import explore
from tests.models.lock import MUTANTS, Lock

WAIT, JOIN = ("wait",), ("join",)
SCENARIOS = {
    "three processes": Lock((WAIT,), (WAIT,), (("try",),), deaths=1),
    "second deaths": Lock((WAIT,), (WAIT,), (WAIT,), deaths=2),
    "come again": Lock((("wait", "try"),), (WAIT,), (WAIT,)),
    "slot reuse": Lock((WAIT,), (WAIT,), (JOIN,), newcomers=1, slots=2, deaths=2),
    "lost record lock": Lock((WAIT,), (WAIT,), (WAIT,), robberies=1),
    "threads": Lock((("leave",), WAIT), (WAIT,), deaths=1),
}
"""What the processes do, thread by thread, and what may happen to them."""

CAUGHT_BY = {
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
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_lock(scenario: str) -> None:
    report = explore(SCENARIOS[scenario])
    assert not report.wrong, report


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_rule_is_needed(mutant: str) -> None:
    report = explore(SCENARIOS[CAUGHT_BY[mutant]].mutant(mutant))
    assert report.wrong
    assert report.trace
