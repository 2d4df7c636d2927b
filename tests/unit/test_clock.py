"""What is known of a server's clock, and what stamps mean by it."""

from __future__ import annotations

import pytest

from hybrid_layer import clock as clocks
from hybrid_layer.clock import ServerClock

LIFE = 60.0


class Machine:
    """The time of a machine, and of a server whose clock shows `ahead` seconds more."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.ahead = 1_000_000.0
        self.set = 0
        self.clock: ServerClock

    def was_set(self) -> None:
        self.set += 1

    def measure(self, took: float = 0.0) -> None:
        asked = self.now
        shown = self.now + took / 2 + self.ahead
        self.now += took
        self.clock.measured(shown, asked)

    def stamp(self, life: float = LIFE) -> int:
        """That of a message sent now."""
        return round((self.now + self.ahead + life) * 1000)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(clocks, "boottime", lambda: machine.now)
    monkeypatch.setattr(clocks, "monotonic", lambda: machine.now)
    machine.clock = ServerClock(LIFE, machine.was_set)
    return machine


def test_what_was_never_measured_says_nothing(machine: Machine) -> None:
    assert machine.clock.left(machine.stamp()) <= 0
    assert machine.clock.judgement() is None
    assert machine.clock.stamp(1) is None


def test_a_better_measurement_counts_a_worse_one_does_not(machine: Machine) -> None:
    machine.measure(took=0.4)
    machine.measure(took=0.02)
    assert machine.clock.left(machine.stamp(10)) == pytest.approx(10)
    machine.clock.measured(machine.now + machine.ahead + 0.2, machine.now - 0.5)
    assert machine.clock.left(machine.stamp(10)) == pytest.approx(10)
    assert not machine.set


def test_a_drifting_clock_is_followed(machine: Machine) -> None:
    for _ in range(100):
        machine.measure()
        machine.now += 100
        machine.ahead += 0.04
    machine.measure()
    assert machine.clock.left(machine.stamp(10)) == pytest.approx(10)
    assert not machine.set


@pytest.mark.parametrize("step", [-7200.0, 300.0, 2.0, -1.0])
def test_stamps_of_before_and_after_the_clock_was_set(machine: Machine, step: float) -> None:
    """A step that is shorter than a life makes lives shorter by as much at most."""
    short = abs(step) if abs(step) < LIFE else 0
    machine.measure()
    old, older = machine.stamp(), machine.stamp(-1)
    machine.now += 1
    machine.ahead += step
    machine.measure()
    assert machine.set == 1
    new = machine.stamp()
    for passed in (0, LIFE - 4):
        machine.now += passed
        assert LIFE - 1 - passed - short - 0.001 < machine.clock.left(old) < LIFE - 1 - passed + 0.001
        assert LIFE - passed - short - 0.001 < machine.clock.left(new) < LIFE - passed + 0.001
    if step > 0:
        assert machine.clock.left(older) <= 0
    machine.now += 5
    assert machine.clock.left(new) <= 0
    assert step < 0 or machine.clock.left(old) <= 0


def test_an_answer_that_comes_late_does_not_bring_the_old_clock_back(machine: Machine) -> None:
    machine.measure()
    asked, shown = machine.now, machine.now + machine.ahead
    machine.now += 0.1
    machine.ahead += 300
    machine.measure()
    machine.clock.measured(shown, asked)
    assert machine.set == 1
    assert machine.clock.left(machine.stamp(10)) == pytest.approx(10)


def test_scripts_are_told_since_when_and_what(machine: Machine) -> None:
    machine.measure()
    machine.now += 10
    assert machine.clock.judgement() == pytest.approx((1005000000, 0, 1005010000))
    machine.ahead += 300
    machine.measure()
    assert machine.clock.judgement() == pytest.approx((1005310000, 1005310000, 1005310000))


def test_messages_are_stamped_for_a_while_and_never_too_early(machine: Machine) -> None:
    machine.measure()
    assert machine.clock.stamp(60_000) is None
    asked = machine.now
    machine.measure(took=0.08)
    machine.clock.may_stamp(asked)
    stamp = machine.clock.stamp(60_000)
    assert stamp is not None
    assert stamp >= machine.stamp()
    machine.clock.doubt()
    assert machine.clock.stamp(60_000) is None
    machine.clock.may_stamp(machine.now - 3)
    assert machine.clock.stamp(60_000) is None, "it took too long"
    machine.clock.may_stamp(machine.now)
    assert machine.clock.stamp(60_000) is not None
    machine.now += 10.1
    assert machine.clock.stamp(60_000) is None
