# SPDX-License-Identifier: BSD-3-Clause
"""A prefix of its own for each run of a site's tests, which leaves nothing in shared memory.

``hybrid_layer.testing.plugin`` is the same for pytest.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

_RUN = "HYBRID_LAYER_TEST_RUN"
_WORKER = "HYBRID_LAYER_TEST_WORKER"
"""Environment variables. Processes inherit them, by whatever method they are started."""


def layers_for_tests(layers: Mapping[str, Any]) -> dict[str, Any]:
    """The value of ``CHANNEL_LAYERS`` in the settings of tests: `layers`, those of the site, with other prefixes.

    Each run of the tests has prefixes of its own, and so has each worker that runs tests in parallel (``manage.py test
    --parallel``, pytest-xdist). A worker shares them with all processes that it starts, whether they are forked or
    import the settings again. Aliases that share a prefix share one here, too.

    ``TEST_CONFIG``, where there is one, takes the place of ``CONFIG``. Layers of other packages stay as they are.

    When the first process of the run ends, it removes the segments of all its processes, whatever is unread there.
    """
    numbers: dict[str, int] = {}
    found = {}
    for alias, entry in layers.items():
        if str(entry.get("BACKEND", "")).startswith("hybrid_layer."):
            config = entry.get("TEST_CONFIG", entry.get("CONFIG", {}))
            prefix = config.get("prefix", "")
            number = numbers.setdefault(prefix() if callable(prefix) else prefix, len(numbers))
            rest = {key: value for key, value in entry.items() if key != "TEST_CONFIG"}
            entry = {**rest, "CONFIG": {**config, "prefix": partial(_prefix, _run(), number)}}
        found[alias] = entry
    return found


def prefix_for_tests() -> Callable[[], str]:
    """The value of the option ``prefix`` in the settings of tests: ``"CONFIG": {"prefix": prefix_for_tests()}``.

    For a class of your own, or settings that are written for tests alone; else see `layers_for_tests`.
    """
    return partial(_prefix, _run(), 0)


def _run() -> str:
    """The name of this run. Set now, since processes that are started later have to inherit it."""
    if _RUN not in os.environ:
        run = os.environ[_RUN] = f"test-{secrets.token_hex(6)}"
        atexit.register(_clean_up, run, os.getpid())
    return os.environ[_RUN]


def _prefix(run: str, number: int) -> str:
    # Django has no public way to tell its workers apart. It counts from 1; a forked one inherits everything but this.
    worker_id = getattr(sys.modules.get("django.test.runner"), "_worker_id", 0)
    if worker_id:
        os.environ[_WORKER] = str(worker_id)
    worker = os.environ.get("PYTEST_XDIST_WORKER") or os.environ.get(_WORKER)
    return f"{run}{f'-{worker}' if worker else ''}{f'.{number}' if number else ''}"


def _clean_up(run: str, pid: int) -> None:
    """Remove what the run's processes have left in shared memory: workers end without running any code."""
    if os.getpid() == pid:  # a forked child inherits this function
        with contextlib.suppress(ImportError):  # the package without its local half
            from hybrid_layer.testing.leftovers import remove_segments

            remove_segments(run)
