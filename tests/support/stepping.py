"""Runs a function in a forked process and follows its system calls: kills it at the n-th stop, or counts them.

Each call has two stops, before and after it, so that work between two calls is done or not done, too.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

from tests.support.forked import fork

_TRACEME, _SYSCALL, _SETOPTIONS = 0, 24, 0x4200
_TRACESYSGOOD, _EXITKILL = 1, 0x100000
_GET_SYSCALL_INFO, _ENTRY = 0x420E, 1
_AT_A_CALL = signal.SIGTRAP | 0x80

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def kill_at_stop(number: int, function: Callable[[], object]) -> bool:
    """Whether it came to that stop; otherwise it ended before, which must be without an exception."""
    pid = fork(lambda: _be_traced(function))
    _wait_for_stop(pid)
    _ptrace(_SETOPTIONS, pid, _TRACESYSGOOD | _EXITKILL)
    stops = 0
    passed_on = 0
    while stops < number:
        _ptrace(_SYSCALL, pid, passed_on)
        stopped_by = _wait_for_stop(pid)
        if stopped_by is None:
            return False
        stops += stopped_by == _AT_A_CALL
        passed_on = 0 if stopped_by == _AT_A_CALL else stopped_by
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def count_calls(function: Callable[[Callable[[], object]], object], at_mark: Callable[[], object]) -> list[int]:
    """How many system calls it makes between one `mark()` and the next; `mark` is what the function is given.

    At each mark it stands still, and `at_mark` is called here.
    """
    pid = fork(lambda: _be_traced(lambda: (os.getppid(), function(os.getppid))))
    _wait_for_stop(pid)
    _ptrace(_SETOPTIONS, pid, _TRACESYSGOOD | _EXITKILL)
    counts: list[int] = []
    mark = None
    passed_on = 0
    while True:
        _ptrace(_SYSCALL, pid, passed_on)
        stopped_by = _wait_for_stop(pid)
        if stopped_by is None:
            return counts[:-1]  # without those of its end
        passed_on = 0 if stopped_by == _AT_A_CALL else stopped_by
        if stopped_by != _AT_A_CALL or (call := _call_that_begins(pid)) is None:
            continue
        if mark is None:
            mark = call
        elif call == mark:
            counts.append(0)
            at_mark()
        elif counts:
            counts[-1] += 1


def _call_that_begins(pid: int) -> int | None:
    """Its number; None at the end of a call."""
    info = (ctypes.c_uint64 * 12)()
    if _libc.ptrace(_GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info)) < 0:
        raise OSError(ctypes.get_errno(), "ptrace does not tell of the call")
    return int(info[3]) if info[0] & 0xFF == _ENTRY else None


def _be_traced(function: Callable[[], object]) -> None:
    _ptrace(_TRACEME, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    function()


def _wait_for_stop(pid: int) -> int | None:
    """The reason of its stop; None if it has ended in order."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSTOPPED(status):
        return os.WSTOPSIG(status)
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"it ended with {code}"
    return None


def _ptrace(request: int, pid: int, data: int) -> None:
    if _libc.ptrace(request, pid, None, data) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace request {request}")
