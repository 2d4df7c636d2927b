"""Marks of cases, for parametrized tests: see "How much is run" in CONTRIBUTING.rst."""

from __future__ import annotations

import pytest


def thorough_unless(is_usual: bool) -> list[pytest.MarkDecorator]:
    """For a case that `make test` runs only if `is_usual`."""
    return [] if is_usual else [pytest.mark.thorough]
