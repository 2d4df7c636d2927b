"""Processes that a test forks out of its own, or out of a second process, each to run one function."""

from __future__ import annotations

import _imp
import contextlib
import ctypes
import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn


@contextlib.contextmanager
def quiet_forks() -> Iterator[None]:
    """Python >= 3.12 warns of every fork of a process with threads, and that is what these programs test."""
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


_libc = ctypes.PyDLL(None)  # which keeps Python's lock in a call


def fork_in_c(child: Callable[[], object]) -> int:
    """As `fork`, by code that runs no hooks of Python, as uWSGI does."""
    _wait_until_threads_sleep()
    pid = int(_libc.fork())
    if pid == 0:
        run_and_exit(child)
    return pid


def fork_in_c_and_tell(child: Callable[[], object]) -> int:
    """As `fork_in_c`, but the child runs its hooks, as uWSGI does with py-call-osafterfork."""
    _wait_until_threads_sleep()
    _imp.acquire_lock()  # which the hooks' caller releases; from Python 3.13 on, that ends a process without it
    pid = int(_libc.fork())
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        run_and_exit(child)
    _imp.release_lock()
    return pid


def _wait_until_threads_sleep() -> None:
    """Of a thread that waits for Python's lock in such a fork, the child's lock would be broken: Python repairs it."""
    before: list[str] | None = None
    while before != (now := _switches()):
        before = now
        time.sleep(0.02)  # lets the other threads have Python's lock


def _switches() -> list[str]:
    """How often each other thread has gone to sleep, as the system counts."""
    switches = []
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(threading.get_native_id()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                switches += [line for line in (task / "status").read_text().splitlines() if "ctxt_switches" in line]
    return switches


WAYS = {"by Python": fork, "in C": fork_in_c, "in C, told": fork_in_c_and_tell}


def run_and_exit(function: Callable[[], object]) -> NoReturn:
    """The rest of a forked process, which runs nothing that its parent has on the stack or for its exit."""
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
