"""``python -m benchmarks``: run the comparison and print it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, report, targets
from benchmarks.arena import Arena, RunFailed
from benchmarks.backends import Backends
from benchmarks.contestants import BY_NAME, CAPACITY, CONTESTANTS
from benchmarks.questions import QUESTIONS, QUICK, Means, Question, Scale
from benchmarks.results import Series
from tests.support.servers import KINDS

WHOLE = Scale(rounds=2, seconds=0.3, many=5_000, messages=300)
SHORT = Scale(rounds=1, seconds=0.2, many=2_000, messages=200)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog=f"Questions: {', '.join(q.key for q in QUESTIONS)}."
    )
    parser.add_argument("--quick", action="store_true", help="about a minute: some questions, one round")
    parser.add_argument("--rounds", type=int, help="how often each contestant runs")
    parser.add_argument("--many", type=int, help="where a question compares few with many, the many")
    parser.add_argument("--only", nargs="+", metavar="QUESTION", help="questions whose names begin with this")
    parser.add_argument("--contestants", nargs="+", metavar="NAME", help="only those whose names contain this")
    parser.add_argument("--server", choices=KINDS, help="default: redis-server where there is one")
    parser.add_argument(
        "--pin", choices=("together", "apart"), help="keep all processes on one processor, or each on the next one"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all rounds")
    parser.add_argument("--show", type=Path, metavar="FILE", help="run nothing; print what --json has written")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Question]:
    if options.quick and not options.only:
        return [q for q in QUESTIONS if q.key in QUICK]
    questions = [q for q in QUESTIONS if q.key.startswith(tuple(options.only or [""]))]
    if not questions:
        sys.exit(f"No such question; there are {', '.join(q.key for q in QUESTIONS)}.")
    return questions


def ask(question: Question, means: Means, names: list[str]) -> dict[str, Series]:
    """All rounds of one question. Every round lets all contestants run once, every other one in opposite order."""
    results = {name: Series() for name in names}
    for number in range(means.scale.rounds):
        for name in names if number % 2 == 0 else reversed(names):
            _progress(f"{question.key}: round {number + 1} of {means.scale.rounds}, {name}")
            means.observer.empty()
            try:
                results[name].samples[number] = question.measure(means, BY_NAME[name])
            except RunFailed as failure:
                results[name].failures.append(str(failure))
    _progress("")
    return results


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:79.79}\r", end="", file=sys.stderr, flush=True)


def show(file: Path) -> None:
    """The tables of a run that was kept."""
    everything = json.loads(file.read_text())
    for facts in (everything["machine"], everything["versions"], everything["scale"]):
        print(", ".join(f"{key}: {value}" for key, value in facts.items()))
    print(report.HOW_TO_READ)
    kept = everything["questions"]
    asked = [question for question in QUESTIONS if question.key in kept]
    answers = {question.key: report.from_json(kept[question.key]["contestants"]) for question in asked}
    for question in asked:
        print(f"\n{report.table(question, answers[question.key])}")
    print(f"\n{targets.table(answers)}")


def main() -> None:
    options = arguments()
    if options.show:
        show(options.show)
        return
    questions = chosen(options)
    scale = SHORT if options.quick else WHOLE
    scale = replace(scale, rounds=options.rounds or scale.rounds, many=options.many or scale.many)
    started = time.monotonic()
    with Backends(options.server) as backends:
        backend = backends.hosts(1)
        [observer] = backend.observers
        facts = {"machine": machine.machine(), "versions": machine.versions(observer.version)}
        print(", ".join(f"{key}: {value}" for key, value in facts["machine"].items()))
        print(", ".join(f"{key} {value}" for key, value in facts["versions"].items()))
        present = [contestant.name for contestant in CONTESTANTS if contestant.is_here(observer.version)]
        missing = [contestant.name for contestant in CONTESTANTS if contestant.name not in present]
        if missing:
            print(f"Not installed, or not for this server: {', '.join(missing)}.")
        here = [
            name for name in present if not options.contestants or any(part in name for part in options.contestants)
        ]
        pinned = f"processes pinned {options.pin}" if options.pin else "processes not pinned"
        print(f"{scale.rounds} rounds; many is {scale.many:,}; {pinned}. Load before: {machine.load()}.")
        print(report.HOW_TO_READ)
        arena = Arena(backend.hosts, options.pin, max(CAPACITY, scale.many + 1000))
        means = Means(arena, observer, backends, scale)
        answers = {}
        for question in questions:
            names = [name for name in question.contestants if name in here]
            answers[question.key] = ask(question, means, names)
            print(f"\n{report.table(question, answers[question.key])}", flush=True)
    print(f"\n{targets.table(answers)}")
    print(f"\nIt took {time.monotonic() - started:.0f} s. Load after: {machine.load()}.")
    if options.json:
        everything = {
            **facts,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "scale": vars(scale),
            "pin": options.pin,
            "questions": {question.key: report.as_json(question, answers[question.key]) for question in questions},
        }
        options.json.write_text(report.dumps(everything))


if __name__ == "__main__":
    main()
