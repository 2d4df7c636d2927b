"""The results as text and as JSON."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from benchmarks.questions import Question
from benchmarks.results import Column, Sample, Series

NOTHING = "-"
HOW_TO_READ = """\
Figures are medians over the rounds; the spread is the lowest and the highest round. "x NAME" is the main figure (the
first column) divided by NAME's in the same round, and of that the median. lost, twice and disorder count messages, over
all rounds.\
"""


def table(question: Question, results: dict[str, Series]) -> str:
    """One question's results."""
    main, *others = question.columns
    references = [name for name in question.references if name in results]
    counts = [count for count in ("lost", "twice", "disorder") if any(s.total(count) for s in results.values())]
    head = [
        "",
        main.title,
        "spread",
        *(f"x {name}" for name in references),
        *(column.title for column in others),
        *counts,
    ]
    rows = [head]
    notes = []
    for name, series in results.items():
        row = [name, _figure(series.median(main.key), main), _spread(series, main)]
        row += [_ratio(series.ratio(results[reference], main.key)) for reference in references]
        row += [_figure(series.median(column.key), column) for column in others]
        row += [str(series.total(count)) for count in counts]
        rows.append(row)
        if series.failures:
            notes.append(f"  {name}: {len(series.failures)} failed, the last one: {series.failures[-1]}")
    if not counts:
        notes.append("  nothing lost, nothing twice, all in order")
    return "\n".join([textwrap.fill(question.text, 118), "", *_align(rows), *notes])


def _figure(value: float | None, column: Column) -> str:
    return NOTHING if value is None else format(value, column.form)


def _spread(series: Series, column: Column) -> str:
    values = series.values(column.key)
    return f"{min(values):{column.form}} .. {max(values):{column.form}}" if values else NOTHING


def _ratio(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            ["", row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def dumps(everything: dict[str, Any]) -> str:
    """As JSON, each contestant's answer to a question in a line of its own."""
    questions = []
    for key, question in everything["questions"].items():
        answers = [f"    {json.dumps(name)}: {json.dumps(answer)}" for name, answer in question["contestants"].items()]
        rest = {name: value for name, value in question.items() if name != "contestants"}
        head = json.dumps(rest)[:-1]
        questions.append(f'  {json.dumps(key)}: {head}, "contestants": {{\n' + ",\n".join(answers) + "\n  }}")
    head = json.dumps({name: value for name, value in everything.items() if name != "questions"}, indent=1)[:-2]
    return f'{head},\n "questions": {{\n' + ",\n".join(questions) + "\n }\n}\n"


def from_json(contestants: dict[str, Any]) -> dict[str, Series]:
    """The results of one question, from what `as_json` has of its contestants."""
    results = {}
    for name, answer in contestants.items():
        counts = {
            count: answer[count] for count in ("lost", "twice", "disorder")
        }  # of all rounds, so told of the first
        series = results[name] = Series(failures=answer["failures"])
        for row in answer["rounds"]:
            figures = {key: value for key, value in row.items() if key != "round"}
            series.samples[row["round"]] = Sample(figures, **counts)
            counts = {}
    return results


def as_json(question: Question, results: dict[str, Series]) -> dict[str, Any]:
    """Everything about one question, each round apart."""
    return {
        "text": question.text,
        "main": question.columns[0].key,
        "titles": {column.key: column.title for column in question.columns},
        "contestants": {
            name: {
                "medians": {column.key: series.median(column.key) for column in question.columns},
                "ratios": {
                    reference: series.ratio(results[reference], question.columns[0].key)
                    for reference in question.references
                    if reference in results
                },
                "lost": series.total("lost"),
                "twice": series.total("twice"),
                "disorder": series.total("disorder"),
                "rounds": [{"round": number, **sample.figures} for number, sample in sorted(series.samples.items())],
                "failures": series.failures,
            }
            for name, series in results.items()
        },
    }
