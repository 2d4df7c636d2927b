"""Removes what the tests of the local half leave in /dev/shm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid_layer.ipc import _core
from tests.ipc.namespaces import in_its_own
from tests.ipc.programs import Stopper, compile_programs
from tests.ipc.tools import directory_path, segment_path

collect_ignore = ["test_dev_shm.py", "test_system_calls.py"] if _core.PORTABLE else []
IS_ROOT = os.geteuid() == 0
if not IS_ROOT:
    collect_ignore.append("test_users.py")


@pytest.fixture
def prefix(prefix: str) -> Iterator[str]:
    """A prefix that no other test uses; messages and dead processes would keep its segment."""
    yield prefix
    segment_path(prefix).unlink(missing_ok=True)
    shutil.rmtree(directory_path(prefix), ignore_errors=True)


@pytest.fixture(scope="session")
def c_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of `core/stopper.c` and `core/crowd.c`, compiled."""
    return compile_programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def stopper(c_programs: Path) -> Iterator[Callable[[str], Stopper]]:
    """`stopper(prefix)` starts a process of that segment that can be stopped inside its lock."""
    made: list[Stopper] = []

    def make(prefix: str) -> Stopper:
        made.append(Stopper(c_programs, prefix))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not IS_ROOT:
        terminalreporter.section("left out")
        text = "only root may change its user: processes that do were not tested (tests/ipc/test_users.py)"
        terminalreporter.line(text, yellow=True)
    if not in_its_own():
        terminalreporter.section("left out")
        text = "pid namespaces are not allowed here: their tests ran in one (tests/ipc/test_namespaces.py)"
        terminalreporter.line(text, yellow=True)
