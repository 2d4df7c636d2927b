"""The one thread per process that does I/O for event loops too short-lived to have connections of their own.

`async_to_sync` makes a loop per call; a connection per call would cost more than the call. Such loops hand their work
to this thread's loop. What must go on while no loop of the application runs, such as renewing an alive key, lives here
too.

Started at first use, ended at exit. Before a fork, which a thread does not survive in the child, it is paused and
joined; in the parent its loop then goes on in another thread, with all connections.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import ctypes
import os
import selectors
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from hybrid_layer import identity
from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.loops import leave_pending
from hybrid_layer.remote.runtime.io_loop import IOLoop
from hybrid_layer.remote.runtime.real_thread import Thread, is_gevent, start_thread
from hybrid_layer.supervision import Guard, apart
from hybrid_layer.timers import time_limit

T = TypeVar("T")

_GRACE = 1.0
"""Seconds that calls under way get to end before the thread stops."""
_BEGIN = 5.0
"""Seconds that the thread gets to begin."""
_MARGIN = 1.0
"""Seconds beyond its own timeout after which a call is given up, whose error is the better one."""
_PAUSES = (0.02, 5.0)
"""Seconds, from the first to the longest, until a thread that ended of a fault is started anew."""
_WHAT = "the thread for I/O"
_JOIN = 3.0
"""Seconds after which a fork or the exit goes on without the thread, which may hang in name resolution."""


class Resident(Protocol):
    """Something that runs in the thread's loop as long as there is one."""

    def start(self) -> None:
        """Called in the thread's loop, of which there is another one after the thread was stopped."""


class IOThread:
    """The thread of one process, and its event loop, which outlives the thread over a fork."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread: Thread | None = None
        self._loop: IOLoop | None = None
        self._selector: selectors.DefaultSelector | None = None
        self._pauses = False
        self._ends = False
        self._calls: set[asyncio.Task[Any]] = set()
        self._pause = _PAUSES[0]
        self._cause = ""
        """Why there is no loop, if that was tried."""
        self._residents: weakref.WeakSet[Resident] = weakref.WeakSet()

    def submit(self, work: Callable[[], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Run `work()` in the thread. A cancelled future cancels it; where no thread can run, it has an error."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        try:
            self._post(lambda: self._begin(work, future))
        except RemoteUnavailable as error:
            _fail(future, error)
        return future

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> T:
        """Run `work()`, which takes at most `timeout` seconds, in the thread and wait for it.

        Raises `RemoteUnavailable` where the thread does not run.
        """
        try:
            async with time_limit(timeout + _MARGIN):
                return await asyncio.wrap_future(self.submit(work))
        except TimeoutError:
            raise RemoteUnavailable(
                f"The thread for I/O of hybrid_layer did not answer within {timeout} s: it was ended, or does not run. "
                f"Does something other than gevent replace Python's threads?"
            ) from None

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call something in the thread if that runs, else nothing."""
        loop = self._loop
        if loop is not None:
            try:
                apart(loop.call_soon_threadsafe, callback)
            except RuntimeError:  # it has just ended
                pass

    def settle(self, resident: Resident) -> None:
        """Start `resident` in the thread, now and after every restart, until it is garbage."""
        with self._lock:
            self._residents.add(resident)
            self._post(resident.start)

    def leave(self, resident: Resident) -> None:
        """Start `resident` no more."""
        self._residents.discard(resident)

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
        """Pause, and let nobody go on until the fork is over."""
        self._lock.acquire()
        thread, loop = self._thread, self._loop
        if thread is None or loop is None or is_here():
            return
        if is_gevent():  # which ties what a loop has to its thread
            self.close()
        else:
            self._pauses = True
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_JOIN)
            loop.end_lookups()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._pauses = False
        with Guard(_WHAT, None):
            if self._loop is not None or len(self._residents):
                self._ensure_thread()
        self._lock.release()

    def detach(self) -> None:
        """In a child: close what was inherited, unharmed to the parent, whose loop goes on."""
        loop, selector = self._loop, self._selector
        if loop is None or selector is None:
            return
        for task in asyncio.all_tasks(loop):
            leave_pending(task)
        # It does run where the fork was made in the thread, or by code that runs no hooks; then nobody here closes it.
        if not loop.is_running():
            # The selector is shared with the parent, which would stop listening for what the child closes in it.
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, selector.fileno(), inheritable=False)
            os.close(null)
            loop.close()
        # Its coroutines must not be closed, not even when the interpreter ends: their clean-up is the parent's.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _post(self, callback: Callable[[], object]) -> None:
        """Call something in the thread, which is started if it does not run. Does not wait for it."""
        if is_here():  # who forks or ends the process has the lock, and waits for us
            apart(asyncio.get_running_loop().call_soon, callback)
            return
        with self._lock:
            apart(self._ensure_thread().call_soon_threadsafe, callback)

    def _open(self) -> IOLoop:
        self._selector = selectors.DefaultSelector()
        loop = self._loop = apart(IOLoop, self._selector)
        self._calls = set()
        for resident in list(self._residents):
            apart(loop.call_soon_threadsafe, resident.start)
        return loop

    def _ensure_thread(self) -> IOLoop:
        """The thread's loop. Starts the thread if it does not run: it never did, or was ended by an exception."""
        if self._thread is None or not self._thread.is_alive():
            self._ends = self._pauses = False
            self._thread = apart(start_thread, self._main, "hybrid_layer-io", _BEGIN)
        if self._loop is None:
            raise RemoteUnavailable(f"The thread for I/O of hybrid_layer does not run: {self._cause or 'it is slow'}.")
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
        finally:  # also where a callback wants the thread to end
            if not self._pauses:
                self._end(loop)
            if not (self._ends or self._pauses):
                self._start_anew(monotonic() - began)

    def _start_anew(self, lived: float) -> None:
        """Another thread takes the place of this one, which ended by a fault after so many seconds."""
        _here.is_io_thread = False
        self._pause = _PAUSES[0] if lived > _PAUSES[1] else min(2 * self._pause, _PAUSES[1])
        time.sleep(self._pause)
        if not self._ends:
            with Guard(_WHAT, None):  # where that fails, whoever uses it next tries again
                self._post(lambda: None)

    def _end(self, loop: IOLoop) -> None:
        if self._loop is loop:
            self._thread = self._loop = None
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # which knows how to end a loop
            runner.run(self._wait_for(self._calls))

    async def _wait_for(self, calls: set[asyncio.Task[Any]]) -> None:
        if calls:  # asked here, since some may end in the loop's first turn
            await asyncio.wait(calls, timeout=_GRACE)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, T]], future: concurrent.futures.Future[T]) -> None:
        if future.cancelled():
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(work())
        self._calls.add(task)

        def ended(task: asyncio.Task[T]) -> None:
            self._calls.discard(task)
            error = _cut_short() if task.cancelled() else task.exception()
            if error is not None:
                _fail(future, error)
            elif future.set_running_or_notify_cancel():
                future.set_result(task.result())

        def left(future: concurrent.futures.Future[T]) -> None:
            if future.cancelled():
                try:
                    loop.call_soon_threadsafe(task.cancel)
                except RuntimeError:  # the loop is closed, the task over
                    pass

        task.add_done_callback(ended)
        future.add_done_callback(left)


def _cut_short() -> RemoteUnavailable:
    return RemoteUnavailable("The call was cut short: the process forks or ends.")


def _fail(future: concurrent.futures.Future[Any], error: BaseException) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


_here = threading.local()
_current = IOThread()


def current() -> IOThread:
    """The calling process's thread, running or not."""
    identity.this_process()
    return _current


def is_here() -> bool:
    """Whether the caller runs in the thread."""
    return getattr(_here, "is_io_thread", False)


def _before_fork() -> None:
    current().before_fork()


def _after_fork_in_parent() -> None:
    _current.after_fork_in_parent()


def _renew() -> None:
    global _current
    _here.is_io_thread = False
    inherited, _current = _current, IOThread()  # the old one's lock and thread are the parent's
    inherited.detach()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
identity.in_child(_renew)
atexit.register(lambda: current().close())
