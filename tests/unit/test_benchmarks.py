"""The benchmarks' own arithmetic: a faulty checker would praise a layer that loses messages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.questions import QUESTIONS, QUICK
from benchmarks.results import Sample, Series, Tally, quantile
from benchmarks.targets import TARGETS

SENT = [(0, 0), (0, 1), (1, 0), (1, 1)]
DOCS = Path(__file__).parents[2] / "docs"
KEPT = DOCS / "benchmarks"


def test_all_arrived() -> None:
    assert Tally().compare(SENT, [[(0, 0), (1, 0), (0, 1)], [(1, 1)]]) == Tally()


def test_lost() -> None:
    assert Tally().compare(SENT, [[(0, 0), (1, 0)], []]) == Tally(lost=2)


@pytest.mark.parametrize("second", [[(0, 0)], []], ids=["another receiver", "the same"])
def test_twice(second: list[tuple[int, int]]) -> None:
    first = SENT if second else [*SENT, (0, 0)]
    assert Tally().compare(SENT, [first, second]) == Tally(twice=1)


def test_disorder_is_of_one_sender_at_one_receiver() -> None:
    assert Tally().compare(SENT, [[(0, 1), (1, 0), (0, 0)], [(1, 1)]]) == Tally(disorder=1)
    assert Tally().compare(SENT, [[(0, 1), (1, 1)], [(0, 0), (1, 0)]]) == Tally()


def test_ratio_is_taken_within_a_round() -> None:
    # The machine was busy in round 1; the ratio of the medians would be 3.
    ours = Series({0: Sample({"us": 30}), 1: Sample({"us": 300}), 2: Sample({"us": 30})})
    theirs = Series({0: Sample({"us": 10}), 1: Sample({"us": 150}), 3: Sample({"us": 1})})
    assert ours.ratio(theirs, "us") == 2.5
    assert ours.ratio(Series(), "us") is None
    assert ours.difference(theirs, "us") == (20 + 150) / 2
    assert ours.difference(Series(), "us") is None


def test_quantile() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([3, 1, 2], 0.99) == 3


def test_targets_and_quick_questions_are_asked() -> None:
    """A target with a wrong name would never be checked, without notice."""
    asked = {question.key: question for question in QUESTIONS}
    assert set(QUICK) <= set(asked)
    for target in TARGETS:
        question = asked[target.question]
        assert {target.contestant, target.reference or target.contestant} <= set(question.contestants), target
        assert target.figure in {column.key for column in question.columns}, target


def test_the_kept_run_is_whole_and_is_what_its_tables_are_made_of() -> None:
    everything = json.loads((KEPT / "results.json").read_text())
    assert report.dumps(everything) == (KEPT / "results.json").read_text()
    assert set(everything["questions"]) <= {question.key for question in QUESTIONS}
    for question in QUESTIONS:
        if kept := everything["questions"].get(question.key):
            results = report.from_json(kept["contestants"])
            again = json.loads(json.dumps(report.as_json(question, results)))
            assert again["contestants"] == kept["contestants"]
            assert report.table(question, results).startswith(question.text[:40])


def test_of_runs_only_what_the_pages_show_is_kept() -> None:
    """`python -m benchmarks` makes the rest."""
    shown = {"results.json"}
    for page in ("benchmarks", "scaling"):
        shown |= set(re.findall(r":: benchmarks/(\S+)", (DOCS / f"{page}.rst").read_text()))
    assert {str(path.relative_to(KEPT)) for path in KEPT.rglob("*") if path.is_file()} == shown
