"""Prints what the models went through, and how each protocol fails without one of its rules."""

from __future__ import annotations

from collections.abc import Mapping

from tests.models import lock, ringing, test_lock, test_ringing
from tests.models.explorer import explore


def tell(title: str, scenarios: Mapping[str, lock.Lock | ringing.Ringing]) -> None:
    print(f"\n{title}\n")
    for name, model in scenarios.items():
        print(f"{name}: {explore(model)}")


def tell_mutants(mutants: Mapping[str, str], scenarios: Mapping[str, lock.Lock | ringing.Ringing]) -> None:
    for name, text in mutants.items():
        print(f"\nIf {text}: {explore(scenarios[name].mutant(name))}")


if __name__ == "__main__":
    tell("The lock", test_lock.SCENARIOS)
    tell("Sleeping and ringing", test_ringing.SCENARIOS)
    for tests, model in ((test_lock, lock), (test_ringing, ringing)):
        tell_mutants(model.MUTANTS, {name: tests.SCENARIOS[tests.CAUGHT_BY[name]] for name in model.MUTANTS})
