"""What the tests of the local half leave in /dev/shm goes with them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from hybrid_layer.ipc import _core
from tests.ipc.tools import directory_path, segment_path

collect_ignore = ["test_dev_shm.py"] if _core.PORTABLE else []


@pytest.fixture
def prefix(prefix: str) -> Iterator[str]:
    """A prefix that nobody else uses; messages and dead processes would keep its segment in being."""
    yield prefix
    segment_path(prefix).unlink(missing_ok=True)
    shutil.rmtree(directory_path(prefix), ignore_errors=True)
