"""Goes through every state that a small model of a protocol can reach: all interleavings, with all deaths in between.

A model is a class with an initial state and the steps that lead on from a state. States are tuples, so that one that is
reached twice is recognised. The search is breadth first: each fault comes with a shortest path to it.

Two sorts of things can be wrong. A *state* may break a rule (two owners). And a *hope* may fail: a state from which
something good ought to be reachable (a waiting process gets the lock), by certain steps only (not by a time-out).
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

State = Any
"""A NamedTuple of hashable values."""


class Step(NamedTuple):
    """One atomic step: its name in a trace, its kind, and the state that it leads to."""

    name: str
    kind: str
    """"" for a step of a process; others, such as "time" and "death", as the model says."""
    state: State


@dataclass(frozen=True)
class Hope:
    """From each state where `applies`, steps of none of the kinds `without` must lead to one where `comes_true`."""

    name: str
    """The error if it fails."""
    applies: Callable[[State], bool]
    comes_true: Callable[[State], bool]
    without: frozenset[str]


class Model(Protocol):
    """What `explore` needs."""

    @property
    def hopes(self) -> tuple[Hope, ...]: ...

    def initial(self) -> State: ...

    def steps(self, state: State) -> Iterator[Step]: ...

    def wrong(self, state: State) -> str | None:
        """What is wrong with a state, in words."""


class Rules:
    """A model of which each rule can be taken away. The search has to find what goes wrong without it."""

    mutants: ClassVar[Mapping[str, str]]
    """What the protocol does without one of its rules."""
    without = ""
    """The one that is taken away, of `mutants`."""

    def mutant(self, without: str) -> Self:
        """The same without one rule."""
        assert without in self.mutants
        mutant = copy.copy(self)
        mutant.without = without
        return mutant


def put(items: tuple[Any, ...], index: int, item: object) -> tuple[Any, ...]:
    """`items` with another one at `index`."""
    return (*items[:index], item, *items[index + 1 :])


@dataclass(frozen=True)
class Report:
    """The result. `trace` is empty if nothing is wrong."""

    states: int
    steps: int
    wrong: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.states} states, {self.steps} steps"]
        if self.wrong:
            lines += [f"wrong: {self.wrong}", *(f"  {number:3} {name}" for number, name in enumerate(self.trace, 1))]
        return "\n".join(lines)


def explore(model: Model, most: int = 400_000) -> Report:
    """Visit every state; stop at the first that is wrong. More than `most` states are a mistake in the model."""
    hopes = model.hopes
    first = model.initial()
    numbers = {first: 0}
    states = [first]
    parents: list[tuple[int, str]] = [(-1, "")]
    onward: list[list[tuple[int, str]]] = []
    steps = 0
    waiting = deque([0])
    while waiting:
        number = waiting.popleft()
        wrong = model.wrong(states[number])
        if wrong is not None:
            return Report(len(states), steps, wrong, _way_to(number, parents))
        edges: list[tuple[int, str]] = []
        for name, kind, state in model.steps(states[number]):
            steps += 1
            target = numbers.get(state)
            if target is None:
                target = numbers[state] = len(states)
                assert target < most, f"more than {most} states"
                states.append(state)
                parents.append((number, name))
                waiting.append(target)
            edges.append((target, kind))
        onward.append(edges)
        for hope in hopes:  # the plain case, found at once: nothing more happens by itself
            if all(kind in hope.without for _, kind in edges) and _is_in_vain(hope, states[number]):
                return Report(len(states), steps, f"{hope.name}, after this:", _way_to(number, parents))
    for hope in hopes:
        lost = _where_lost(hope, states, onward)
        if lost is not None:
            return Report(len(states), steps, f"{hope.name}, after this:", _way_to(lost, parents))
    return Report(len(states), steps)


def _is_in_vain(hope: Hope, state: State) -> bool:
    return hope.applies(state) and not hope.comes_true(state)


def _way_to(number: int, parents: list[tuple[int, str]]) -> tuple[str, ...]:
    way = []
    while number > 0:
        number, name = parents[number]
        way.append(name)
    return tuple(reversed(way))


def _where_lost(hope: Hope, states: list[State], onward: list[list[tuple[int, str]]]) -> int | None:
    """The first state from which the goal is out of reach."""
    before: list[list[int]] = [[] for _ in states]
    for number, edges in enumerate(onward):
        for target, kind in edges:
            if kind not in hope.without:
                before[target].append(number)
    reached = [hope.comes_true(state) for state in states]
    waiting = deque(number for number, good in enumerate(reached) if good)
    while waiting:
        for number in before[waiting.popleft()]:
            if not reached[number]:
                reached[number] = True
                waiting.append(number)
    return next((number for number, good in enumerate(reached) if not good and hope.applies(states[number])), None)
