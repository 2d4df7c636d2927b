"""The lock's protocol holds in every interleaving, and each of its rules is needed: without it the model finds why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.explorer import explore
from tests.models.lock import MUTANTS, Lock

WAIT, TRY_LATER, JOIN = ("wait",), ("wait", "try"), ("join",)
SCENARIOS: dict[str, tuple[tuple[Any, ...], dict[str, int]]] = {
    "three processes": (((WAIT,), (WAIT,), (("try",),)), {"deaths": 1}),
    "second deaths": (((WAIT,), (WAIT,), (WAIT,)), {"deaths": 2}),
    "come again": (((TRY_LATER,), (WAIT,), (WAIT,)), {}),
    "slot reuse": (((WAIT,), (WAIT,), (JOIN,)), {"newcomers": 1, "slots": 2, "deaths": 2}),
    "lost record lock": (((WAIT,), (WAIT,), (WAIT,)), {"robberies": 1}),
    "threads": (((("leave",), WAIT), (WAIT,)), {"deaths": 1}),
}
"""Programs of the processes, and what may happen to them."""

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


def lock(scenario: str, without: str = "") -> Lock:
    programs, bounds = SCENARIOS[scenario]
    return Lock(*programs, **bounds, without=without)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_lock(scenario: str) -> None:
    report = explore(lock(scenario))
    print(f"{scenario}: {report}")
    assert not report.wrong, report


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_rule_is_needed(mutant: str) -> None:
    report = explore(lock(CAUGHT_BY[mutant], without=mutant))
    print(f"without the rule: {MUTANTS[mutant]}\n{report}")
    assert report.wrong
    assert report.trace
