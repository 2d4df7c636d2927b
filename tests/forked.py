"""Processes that a test forks out of its own, or out of a second process, each to run one function."""

from __future__ import annotations

import contextlib
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import NoReturn


@contextlib.contextmanager
def quiet_forks() -> Iterator[None]:
    """Python >= 3.12 warns of every fork of a process with threads, which is what these programs are about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
        yield


def fork(child: Callable[[], object]) -> int:
    """Run `child` in a forked process; its pid."""
    with quiet_forks():
        pid = os.fork()
    if pid == 0:
        run_and_exit(child)
    return pid


def run_and_exit(function: Callable[[], object]) -> NoReturn:
    """The rest of a forked process, none of which runs what its parent has on the stack or for its exit."""
    code = 1
    try:
        function()
        code = 0
    except BaseException:  # noqa: BLE001  # also what ends an interpreter: all of it is printed, and told by the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    """That of a child, when it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_for(pid: int) -> None:
    """Wait for a child, which must end in order."""
    assert exit_code(pid) == 0
