# SPDX-License-Identifier: BSD-3-Clause
"""A prefix for the settings of tests, which only the processes of one test run share."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from functools import partial

_RUN = "HYBRID_LAYER_TEST_RUN"
_WORKER = "HYBRID_LAYER_TEST_WORKER"
"""Environment variables. Processes inherit them, by whatever method they are started."""


def prefix_for_tests() -> Callable[[], str]:
    """The value of the option ``prefix`` in the settings of tests: ``"CONFIG": {"prefix": prefix_for_tests()}``.

    Each run of the tests has a prefix of its own, and so has each worker that runs tests in parallel (``manage.py test
    --parallel``, pytest-xdist). A worker shares its prefix with all processes that it starts, whether they are forked
    or import the settings again.
    """
    # Set now, since processes that are started later have to inherit it.
    return partial(_prefix, os.environ.setdefault(_RUN, f"test-{secrets.token_hex(6)}"))


def _prefix(run: str) -> str:
    # Django has no public way to tell its workers apart. It counts from 1; a forked one inherits everything but this.
    number = getattr(sys.modules.get("django.test.runner"), "_worker_id", 0)
    if number:
        os.environ[_WORKER] = str(number)
    worker = os.environ.get("PYTEST_XDIST_WORKER") or os.environ.get(_WORKER)
    return f"{run}-{worker}" if worker else run
