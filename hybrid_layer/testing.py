"""For the settings of tests: a prefix that all processes of a test run share, and no others."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from functools import partial

_RUN = "HYBRID_LAYER_TEST_RUN"
_WORKER = "HYBRID_LAYER_TEST_WORKER"
"""Environment variables, which started processes inherit, by whatever method they are started."""


def prefix_for_tests() -> Callable[[], str]:
    """What the option ``prefix`` is to be in the settings of tests: ``"CONFIG": {"prefix": prefix_for_tests()}``.

    Each run of the tests has a prefix of its own, and of the workers that run tests in parallel (``manage.py test
    --parallel``, pytest-xdist) each one. A worker and all processes that it starts share one, whether they are forked
    or import the settings anew.
    """
    # By now, since processes that are started later have to inherit it.
    return partial(_prefix, os.environ.setdefault(_RUN, f"test-{secrets.token_hex(6)}"))


def _prefix(run: str) -> str:
    worker = _worker()
    return f"{run}-{worker}" if worker else run


def _worker() -> str:
    # Django has no public way to tell its workers apart. It counts from 1; a forked one inherits everything but this.
    number = getattr(sys.modules.get("django.test.runner"), "_worker_id", 0)
    if number:
        os.environ[_WORKER] = str(number)
    return os.environ.get("PYTEST_XDIST_WORKER") or os.environ.get(_WORKER, "")
