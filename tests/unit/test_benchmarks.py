"""The benchmarks' own arithmetic: a faulty checker would praise a layer that loses messages."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report, scaling
from benchmarks.backends import Backend, Backends, Used
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


def test_the_kept_model_is_of_the_kept_run() -> None:
    kept = json.loads((KEPT / "results.json").read_text())
    assert scaling.report(kept) + "\n" == (KEPT / "scaling.txt").read_text()


def test_servers_share_messages_but_not_processes_that_wait() -> None:
    costs = scaling.Costs(
        script=1e-4,
        home=1e-5,
        member=1e-6,
        direct=1e-5,
        job=1e-5,
        is_local=False,
        waiting=0,
        connections=3,
        member_bytes=100,
    )
    site = scaling.SITES[-1]
    assert costs.load(site, 6) == pytest.approx(costs.load(site, 3) / 2)
    waits = replace(costs, waiting=1e-5)
    assert waits.load(site, 6) - costs.load(site, 6) == pytest.approx(1e-5 * site.all_processes)
    assert waits.reach(site, 6) < costs.reach(site, 6)


def test_by_machine_the_servers_know_no_processes() -> None:
    by_name = scaling.Costs(1e-4, 1e-5, 1e-6, 1e-5, 1e-5, True, 1e-5, connections=3, member_bytes=100)
    answers = {"machines": {"contestants": {"hybrid, by machine": {"medians": {"here_2_us": 50, "there_2_us": 80}}}}}
    costs = scaling.Costs.measured_by_machine(answers, by_name)
    assert costs.home == pytest.approx(30e-6)
    site = scaling.SITES[-1]
    more = replace(site, processes=2 * site.processes, consumers=site.consumers // 2)
    assert more.all_consumers == site.all_consumers
    same_jobs = replace(more, jobs=site.jobs / 2)
    assert costs.load(same_jobs, 3) == pytest.approx(costs.load(site, 3))
    assert by_name.load(same_jobs, 3) > by_name.load(site, 3)
    alone = replace(site, machines=1, jobs_at_home=1)
    assert costs.load(alone, 1) == pytest.approx(alone.groups * alone.group_rate * 50e-6 + costs.waiting)


def test_what_servers_do_by_the_clock_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "idle", [0.01, 0.0])
    backend = Backend(hosts=[], observers=[])
    worked = backend.worked(Used(10.0, [1.0, 5.0]), Used(12.0, [1.5, 5.0]))
    assert worked == pytest.approx([0.48, 0.0])


def test_several_servers_and_a_cluster_are_what_they_say() -> None:
    with Backends(None) as backends:
        three = backends.hosts(3)
        assert backends.hosts(3) is three
        assert len(set(three.hosts)) == len(three.observers) == 3
        assert backends.hosts(1).hosts == three.hosts[:1]
        cluster = backends.cluster(3)
        assert len(cluster.hosts) == 1
        assert len(cluster.observers) == 3
        assert backends.cluster(3) is cluster


def test_of_runs_only_what_the_pages_show_is_kept() -> None:
    """`python -m benchmarks` makes the rest."""
    shown = {"results.json"}
    for page in ("benchmarks", "scaling"):
        shown |= set(re.findall(r":: benchmarks/(\S+)", (DOCS / f"{page}.rst").read_text()))
    assert {str(path.relative_to(KEPT)) for path in KEPT.rglob("*") if path.is_file()} == shown
