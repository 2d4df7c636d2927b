"""Marks of cases, for parametrized tests: see "How much is run" in CONTRIBUTING.rst."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thorough_unless(is_usual: bool) -> list[pytest.MarkDecorator]:
    """For a case that `make test` runs only if `is_usual`."""
    return [] if is_usual else [pytest.mark.thorough]


def but_thorough(cases: Iterable[Any], *thorough: Any) -> list[Any]:
    """`cases`; those in `thorough` run only with `make test-all`."""
    return [pytest.param(each, marks=thorough_unless(each not in thorough)) for each in cases]
