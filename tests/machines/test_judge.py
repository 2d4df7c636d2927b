"""The judge of chaos across machines finds what is wrong: journals written by hand, each with one mistake."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.chaos import journal
from tests.chaos.journal import Journal, Op, State, run_delay
from tests.machines.chaos.judge import LONGEST_WITH_LOCK, Life, Outage, Outages, judge
from tests.machines.chaos.workers import SHARED, WORKERS, Seat, jobs_place, work_place

OTHER_GROUP = 1 - SHARED


class Story:
    """Two workers of the first machine, and one of the second; all of them are members of OTHER_GROUP."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.outages: Outages = []
        self.lives = [
            Life(Seat(number, incarnation, 0, directory), cast(Any, None))
            for incarnation, number in enumerate((0, 1, WORKERS), 1)
        ]
        self.journals = {life.seat.incarnation: Journal(directory, life.seat.incarnation) for life in self.lives}
        for who in self.journals:
            self.step(who, Op.JOIN, OTHER_GROUP, 0)

    def step(self, worker: int, op: Op, place: int, who: int = 0, number: int = 0, state: State = State.DONE) -> None:
        journal = self.journals[worker]
        begun = journal.begin(op, place, *((0, 0) if op in (Op.OWN, Op.RECEIVE) else (who, number)))
        journal.end(begun, op, state, place, who, number)

    def direct(self, number: int, state: State = State.DONE) -> None:
        """From worker 1 to worker 3."""
        self.step(1, Op.DIRECT, 0, 3, number, state)

    def group(self, number: int) -> None:
        self.step(1, Op.GROUP, OTHER_GROUP, 0, number)

    def got(self, worker: int, *numbers: int) -> None:
        """On its own channel, from worker 1."""
        for number in numbers:
            self.step(worker, Op.OWN, 0, 1, number)

    def kill(self, worker: int) -> None:
        now = time.monotonic()
        self.lives[worker - 1].killed = now, now

    def verdict(self, servers: int = 3, locality: str = "name") -> list[str]:
        return judge(self.directory, self.lives, self.outages, servers, locality).found


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_all_is_well(story: Story) -> None:
    for number in (1, 3):
        story.direct(number)
        story.group(number + 1)
    story.step(1, Op.SEND, jobs_place(0, 0), 0, 5)
    story.step(2, Op.RECEIVE, jobs_place(0, 0), 1, 5)
    story.step(1, Op.GROUP, SHARED, 0, 6)
    for worker, machine in ((2, 0), (3, 1)):
        story.step(worker, Op.RECEIVE, work_place(machine), 1, 6)
    story.step(1, Op.RECEIVE, work_place(2), 1, 6)  # there is no worker of the third machine
    story.direct(7, State.REFUSED)
    story.direct(8, State.UNCERTAIN)
    story.got(1, 2, 4)
    story.got(2, 2, 4)
    story.got(3, 1, 2, 3, 4)
    assert story.verdict(servers=1) == []


def test_twice(story: Story) -> None:
    story.direct(1)
    story.got(3, 1, 1)
    (found, order) = story.verdict()
    assert "a duplicate of" in found
    assert "came after 1" in order


@pytest.mark.parametrize(("place", "what"), [(jobs_place(0, 1), Op.SEND), (work_place(0), Op.GROUP)])
def test_twice_on_a_machine(story: Story, place: int, what: Op) -> None:
    story.step(1, what, SHARED if what == Op.GROUP else place, 0, 1)
    for worker in (1, 2):
        story.step(worker, Op.RECEIVE, place, 1, 1)
    if what == Op.GROUP:
        for worker, machine in ((3, 1), (1, 2)):
            story.step(worker, Op.RECEIVE, work_place(machine), 1, 1)
    (found,) = story.verdict()
    assert "a duplicate of" in found


def test_out_of_order(story: Story) -> None:
    story.direct(1)
    story.direct(2)
    story.got(3, 2, 1)
    (found,) = story.verdict()
    assert "came after 2" in found


def test_out_of_order_between_ways(story: Story) -> None:
    """With several servers, a group's message and a direct one may pass one another."""
    story.direct(1)
    story.group(2)
    for worker in (1, 2):
        story.got(worker, 2)
    story.got(3, 2, 1)
    assert story.verdict(servers=3) == []
    (found,) = story.verdict(servers=1)
    assert "came after 2" in found


def test_for_somebody_else(story: Story) -> None:
    story.direct(1)
    story.got(3, 1)
    story.got(2, 1)
    (found,) = story.verdict()
    assert "it was for somebody else" in found


@pytest.mark.parametrize("state", [State.DONE, State.UNCERTAIN])
def test_for_who_joined_later(story: Story, state: State) -> None:
    """A message that was done when its receiver joined cannot reach it; one that is still under way can."""
    story.step(1, Op.GROUP, SHARED, 0, 1, state)
    story.step(3, Op.JOIN, SHARED, 0)
    story.got(3, 1)
    for worker, machine in ((2, 0), (3, 1), (1, 2)):
        story.step(worker, Op.RECEIVE, work_place(machine), 1, 1)
    assert any("it was for somebody else" in text for text in story.verdict()) is (state == State.DONE)


@pytest.mark.parametrize("state", [State.REFUSED, None])
def test_never_sent(story: Story, state: State | None) -> None:
    if state is not None:
        story.direct(1, state)
    story.got(3, 1)
    (found,) = story.verdict()
    assert "nobody has sent that" in found


def test_lost(story: Story) -> None:
    story.direct(1)
    story.group(2)
    for worker in (1, 2):
        story.got(worker, 2)
    found = story.verdict()
    assert len(found) == 2
    assert all("is lost for worker 3 of machine 1" in text for text in found)
    now = time.monotonic()
    story.outages = [Outage(now, now, machine=0)]
    assert story.verdict() == found
    for machine in (1, None):
        story.outages = [Outage(now, now, machine)]
        assert story.verdict() == []
        story.outages = [Outage(now - 60, now - 59, machine)]
        assert story.verdict() == found
    story.kill(3)
    assert story.verdict() == []


def test_a_gap_is_no_death(story: Story) -> None:
    story.direct(1)
    story.direct(2)
    story.got(3, 2)
    story.kill(3)
    (found,) = story.verdict()
    assert "or has got later ones" in found


def test_lost_in_shared_memory(story: Story) -> None:
    story.step(1, Op.SEND, jobs_place(0, 0), 0, 1)
    (found,) = story.verdict()
    assert "no reader was killed that could have had it" in found


def test_lost_for_a_machine(story: Story) -> None:
    story.step(1, Op.GROUP, SHARED, 0, 1)
    for worker, machine in ((3, 1), (1, 2)):
        story.step(worker, Op.RECEIVE, work_place(machine), 1, 1)
    found = story.verdict()
    assert "1 messages are lost for machine 0" in found[0]
    assert "no process was killed there then" in found[1]
    story.kill(3)
    assert story.verdict() == found
    story.kill(2)
    assert story.verdict() == []


def test_lost_with_a_neighbour(story: Story) -> None:
    """By machine, a process that is killed had an entry of another one in work; but none that came from there."""
    story.step(3, Op.DIRECT, 0, 1, 1)
    found = story.verdict(1, "machine")
    assert "1 messages are lost for machine 0" in found[0]
    assert "no process was killed there then" in found[1]
    story.kill(2)
    assert story.verdict(1, "machine") == []
    assert "is lost for worker 1" in story.verdict(1, "name")[0]
    story.step(3, Op.DIRECT, 0, 1, 2)
    story.kill(2)
    (found_two,) = story.verdict(1, "machine")
    assert "2 messages are lost for machine 0" in found_two
    assert story.verdict(3, "machine") == []
    story.step(2, Op.DIRECT, 0, 1, 3)
    assert any("is lost for worker 1" in text for text in story.verdict(3, "machine"))


def test_order_within_a_machine(story: Story) -> None:
    """All that one sender sends stays in order there, however many servers there are."""
    story.step(3, Op.JOIN, OTHER_GROUP, 0)
    story.step(2, Op.DIRECT, 0, 1, 1)
    story.step(2, Op.GROUP, OTHER_GROUP, 0, 2)
    for worker in (2, 3):
        story.step(worker, Op.OWN, 0, 2, 2)
    story.step(1, Op.OWN, 0, 2, 2)
    story.step(1, Op.OWN, 0, 2, 1)
    assert story.verdict(3, "name") == []
    (found,) = story.verdict(3, "machine")
    assert "came after 2" in found


def test_late_from_another_machine(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not from the own machine, nor to a process that was stopped meanwhile."""

    def judge_after(seconds: float, sender: int, number: int) -> list[str]:
        story.step(sender, Op.DIRECT, 0, 1, number)
        begun = story.journals[1].begin(Op.OWN, 0)
        with monkeypatch.context() as later:
            later.setattr(journal, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + seconds))
            story.journals[1].end((begun[0], run_delay()), Op.OWN, State.DONE, 0, sender, number)
        return story.verdict(1, "machine")

    assert judge_after(0.9 * LONGEST_WITH_LOCK, 3, 1) == []
    assert judge_after(1.5 * LONGEST_WITH_LOCK, 2, 2) == []
    (found,) = judge_after(1.5 * LONGEST_WITH_LOCK, 3, 3)
    assert "4.50 s late" in found
    now = time.monotonic()
    story.lives[0].stops.append([now, now + 1])
    assert story.verdict(1, "machine") == []
