# SPDX-License-Identifier: BSD-3-Clause
"""``doctor``: what is wrong, with evidence and remedy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from hybrid_layer.commands.findings import LEVELS, Finding, findings, problems, skipped
from hybrid_layer.commands.output import Output, plural, wrapped
from hybrid_layer.commands.survey import survey
from hybrid_layer.commands.target import CannotLook, Target

_COLOURS = {"INFO": "green", "WARNING": "yellow", "ERROR": "red"}


def run(target: Target, arguments: Namespace, output: Output) -> int:
    """1: something is at least as grave as ``--fail-level``."""
    found = survey(target)
    if found.is_missing and not found.servers:
        raise CannotLook(found.why_no_memory)
    every, not_asked = findings(found), skipped(found)
    output.show(
        {"problems": problems(every), "findings": every, "skipped": not_asked}, _lines(every, not_asked, output)
    )
    grave = LEVELS[LEVELS.index(arguments.fail_level) :]
    return 1 if any(each.level in grave for each in every) else 0


def _lines(every: list[Finding], not_asked: list[str], output: Output) -> Iterator[str]:
    for each in every:
        head = f"{each.id} {each.level}"
        first, *rest = wrapped(f"{head}  {each.evidence}")
        yield first.replace(head, output.coloured(head, _COLOURS[each.level]), 1)
        yield from rest
        yield from wrapped(each.remedy, "    ")
    yield from (f"skipped  {text}" for text in not_asked)
    yield f"{plural(problems(every), 'problem')}."
