"""Prints the states that the models explored, and how each protocol fails without one of its rules."""

from __future__ import annotations

from tests.models.explorer import explore
from tests.models.scenarios import PROTOCOLS

if __name__ == "__main__":
    for title, protocol in PROTOCOLS.items():
        print(f"\n{title.capitalize()}\n")
        for name, model in protocol.scenarios.items():
            print(f"{name}: {explore(model)}")
        for name, text in protocol.mutants.items():
            print(f"\nIf {text}: {explore(protocol.mutant(name))}")
