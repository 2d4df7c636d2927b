# SPDX-License-Identifier: BSD-3-Clause
"""The thread, one per process, that does I/O for event loops too short-lived for their own connections.

`async_to_sync` makes a loop per call, and a connection per call would cost more than the call. Such loops hand their
work to this thread's loop. Work that must continue while no loop of the application runs, such as renewing an alive
key, runs here, too.

The thread starts at first use and ends at exit. A thread does not survive a fork in the child, so it is paused and
joined before the fork. Afterwards, another thread of the parent runs its loop, with all connections.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from hybrid_layer import identity
from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.loops import call_in, leave_pending
from hybrid_layer.remote.runtime.io_loop import IOLoop
from hybrid_layer.remote.runtime.real_thread import Thread, is_gevent, start_thread
from hybrid_layer.supervision import Guard, apart
from hybrid_layer.timers import time_limit

T = TypeVar("T")

_GRACE = 1.0
"""Seconds to wait for calls under way before the thread stops."""
_BEGIN = 5.0
"""Seconds to wait for the thread to start."""
_MARGIN = 1.0
"""Seconds beyond a call's own timeout until the call is given up. The call's own error is more precise."""
_PAUSES = (0.02, 5.0)
"""First and longest pause, in seconds, before a thread that ended by an error is started again."""
_WHAT = "the I/O thread"
_JOIN = 3.0
"""Seconds after which a fork or the exit proceeds without the thread, which may hang in name resolution."""


class Resident(Protocol):
    """Something that runs in the thread's loop whenever there is one."""

    def start(self) -> None:
        """Begin. Called in the thread's loop, and again in each new loop."""


class IOThread:
    """The thread of one process, and its event loop, which outlives the thread over a fork."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread: Thread | None = None
        self._loop: IOLoop | None = None
        self._pauses = False
        self._ends = False
        self._calls: set[asyncio.Task[Any]] = set()
        self._pause = _PAUSES[0]
        self._cause = ""
        """Why making a loop failed."""
        self.residents: weakref.WeakSet[Resident] = weakref.WeakSet()
        """What is started in each new loop."""

    def submit(self, work: Callable[[], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Run `work()` in the thread. Cancelling the future cancels it. If no thread runs, the future has an error."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        try:
            self._post(lambda: self._begin(work, future))
        except RemoteUnavailable as error:
            _fail(future, error)
        return future

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> T:
        """Run `work()`, which takes at most `timeout` seconds, in the thread and wait for it.

        Raises `RemoteUnavailable` if the thread does not run.
        """
        try:
            async with time_limit(timeout + _MARGIN):
                return await asyncio.wrap_future(self.submit(work))
        except TimeoutError:
            raise RemoteUnavailable(
                f"The I/O thread of hybrid_layer did not answer within {timeout} s: it has ended or does not run. "
                f"Does something other than gevent replace Python's threads?"
            ) from None

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the thread. Does nothing if the thread does not run."""
        loop = self._loop
        if loop is not None:
            apart(call_in, loop, callback)

    def settle(self, resident: Resident) -> None:
        """Start `resident` in the thread, now and after every restart, until it is garbage."""
        with self._lock:
            self.residents.add(resident)
            self._post(resident.start)

    def close(self) -> None:
        """End the thread and its loop, after the calls under way."""
        with self._lock:
            thread, loop = self._thread, self._loop
            if is_here():
                return
            self._ends = True
            if thread is None or loop is None:
                return
            self._thread = self._loop = None
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_JOIN)

    def before_fork(self) -> None:
        """Pause the thread, and block all other callers until the fork is over."""
        self._lock.acquire()
        thread, loop = self._thread, self._loop
        if thread is None or loop is None or is_here():
            return
        if is_gevent():  # which ties a loop's resources to its thread
            self.close()
        else:
            self._pauses = True
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_JOIN)
            loop.end_lookups()

    def after_fork_in_parent(self) -> None:
        """Resume after the fork."""
        self._pauses = False
        with Guard(_WHAT, None):
            if self._loop is not None or len(self.residents):
                self._ensure_thread()
        self._lock.release()

    def detach(self) -> None:
        """In a child, close what was inherited. The parent's loop, which continues, is not harmed."""
        loop = self._loop
        if loop is None:
            return
        for task in asyncio.all_tasks(loop):
            leave_pending(task)
        # It runs if the fork was made in the thread or by code that runs no hooks. Then it cannot be closed here.
        if not loop.is_running():
            loop.close_in_child()
        # Its coroutines must not be closed, even when the interpreter ends: their clean-up belongs to the parent.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _post(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the thread without waiting. Starts the thread if it does not run."""
        if is_here():  # a thread that forks or ends the process may hold the lock and wait for this one
            apart(asyncio.get_running_loop().call_soon, callback)
            return
        with self._lock:
            apart(self._ensure_thread().call_soon_threadsafe, callback)

    def _open(self) -> IOLoop:
        loop = self._loop = apart(IOLoop)
        self._calls = set()
        for resident in list(self.residents):
            apart(loop.call_soon_threadsafe, resident.start)
        return loop

    def _ensure_thread(self) -> IOLoop:
        """The thread's loop. Starts the thread if it does not run: it never did, or an exception ended it."""
        if self._thread is None or not self._thread.is_alive():
            self._ends = self._pauses = False
            self._thread = apart(start_thread, self._main, "hybrid_layer-io", _BEGIN)
        if self._loop is None:
            raise RemoteUnavailable(f"The I/O thread of hybrid_layer does not run: {self._cause or 'it is slow'}.")
        return self._loop

    def _main(self, begun: Callable[[], None]) -> None:
        _here.is_io_thread = True
        try:
            loop = self._loop or self._open()
        except (OSError, MemoryError) as error:
            self._cause = f"{type(error).__name__}: {error}"
            return
        finally:
            begun()
        began = monotonic()
        try:
            with Guard(_WHAT, None, lambda error: loop.end_waiting()):
                while not (self._ends or self._pauses):
                    loop.run_forever()
        finally:  # also if a callback raised SystemExit
            if not self._pauses:
                self._end(loop)
            if not (self._ends or self._pauses):
                self._start_anew(monotonic() - began)

    def _start_anew(self, lived: float) -> None:
        """Start another thread in place of this one, which an error ended after `lived` seconds."""
        _here.is_io_thread = False
        self._pause = _PAUSES[0] if lived > _PAUSES[1] else min(2 * self._pause, _PAUSES[1])
        time.sleep(self._pause)
        if not self._ends:
            with Guard(_WHAT, None):  # if that fails, the next caller tries again
                self._post(lambda: None)

    def _end(self, loop: IOLoop) -> None:
        if self._loop is loop:
            self._thread = self._loop = None
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # it ends the loop properly
            runner.run(self._wait_for(self._calls))

    async def _wait_for(self, calls: set[asyncio.Task[Any]]) -> None:
        if calls:  # checked here, since some may end in the loop's first turn
            await asyncio.wait(calls, timeout=_GRACE)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, T]], future: concurrent.futures.Future[T]) -> None:
        if future.cancelled():
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(work())
        self._calls.add(task)

        def ended(task: asyncio.Task[T]) -> None:
            self._calls.discard(task)
            error = cut_short() if task.cancelled() else task.exception()
            if error is not None:
                _fail(future, error)
            elif future.set_running_or_notify_cancel():
                future.set_result(task.result())

        def left(future: concurrent.futures.Future[T]) -> None:
            if future.cancelled():
                call_in(loop, task.cancel)

        task.add_done_callback(ended)
        future.add_done_callback(left)


def cut_short() -> RemoteUnavailable:
    """The error of a call that the thread could not finish."""
    return RemoteUnavailable("The call was cut short: the process forks or ends.")


def _fail(future: concurrent.futures.Future[Any], error: BaseException) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


_here = threading.local()
_current = IOThread()


def current() -> IOThread:
    """The I/O thread of the calling process, running or not."""
    identity.this_process()
    return _current


def is_here() -> bool:
    """Whether the caller runs in the I/O thread."""
    return getattr(_here, "is_io_thread", False)


def _renew() -> None:
    global _current
    _here.is_io_thread = False
    inherited, _current = _current, IOThread()  # the old one's lock and thread belong to the parent
    inherited.detach()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: current().before_fork(), after_in_parent=lambda: _current.after_fork_in_parent())
identity.in_child(_renew)
atexit.register(lambda: current().close())
