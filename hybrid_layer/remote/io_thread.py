"""The one thread per process that does I/O for event loops too short-lived to have connections of their own.

`async_to_sync` makes a loop per call; a connection per call would cost more than the call. Such loops hand their work
to this thread's loop. What must go on while no loop of the application runs, such as renewing an alive key, lives here
too.

Started at first use. Stopped and joined before a fork, since a thread does not survive it, and at exit.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from hybrid_layer.exceptions import RemoteUnavailable

T = TypeVar("T")

_GRACE = 1.0
"""Seconds that calls under way get to end before the thread stops."""
_JOIN = 3.0
"""Seconds after which a fork or the exit goes on without the thread, which may hang in name resolution."""


class Resident(Protocol):
    """Something that runs in the thread's loop as long as there is one."""

    def start(self) -> None:
        """Called in the thread's loop each time that the thread was started."""


class IOThread:
    """The thread of one process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._backlog: deque[Callable[[], object]] = deque()
        """What was posted and not yet called."""
        self._calls: set[asyncio.Task[Any]] = set()
        self._residents: weakref.WeakSet[Resident] = weakref.WeakSet()

    def submit(self, work: Callable[[], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Run `work()` in the thread. A cancelled future cancels it."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._post(lambda: self._begin(work, future))
        return future

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work()` in the thread and wait for it."""
        return await asyncio.wrap_future(self.submit(work))

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call something in the thread if that runs, else nothing."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(callback)
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

    def stop(self) -> None:
        """End the thread, after the calls under way."""
        with self._lock:
            thread = self._thread
            if thread is None or thread is threading.current_thread():
                return
            self._ready.wait(_JOIN)
            loop, stopping = self._loop, self._stopping
            if loop is None or stopping is None:
                return
            self._thread = self._loop = None
            try:
                loop.call_soon_threadsafe(stopping.set)
            except RuntimeError:  # it died by itself
                pass
            thread.join(_JOIN)

    def restart(self) -> None:
        """Start the thread if it has something to do by itself."""
        if self._residents:
            self._post(lambda: None)

    def before_fork(self) -> None:
        """Stop, and let nobody start the thread until the fork is over."""
        self._lock.acquire()
        self.stop()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()
        self.restart()

    def _post(self, callback: Callable[[], object]) -> None:
        """Call something in the thread, which is started if it does not run. Does not wait for it."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._loop = None
                self._ready = threading.Event()
                self._thread = threading.Thread(
                    target=lambda: asyncio.run(self._main()), name="hybrid_layer-io", daemon=True
                )
                self._thread.start()
            self._backlog.append(callback)
            loop = self._loop
            if loop is not None:
                loop.call_soon_threadsafe(self._work_off)
            # Else the thread is starting, and looks into the backlog once it has set its loop.

    def _work_off(self) -> None:
        while self._backlog:
            self._backlog.popleft()()

    async def _main(self) -> None:
        _here.is_io_thread = True
        stopping = self._stopping = asyncio.Event()
        self._calls = set()
        # Not under the lock: `stop` holds it while it waits for us.
        self._loop = asyncio.get_running_loop()
        for resident in list(self._residents):
            resident.start()
        self._ready.set()
        self._work_off()
        await stopping.wait()
        if self._calls:
            await asyncio.wait(self._calls, timeout=_GRACE)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, T]], future: concurrent.futures.Future[T]) -> None:
        if future.cancelled():
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(work())
        self._calls.add(task)

        def ended(task: asyncio.Task[T]) -> None:
            self._calls.discard(task)
            error: BaseException | None
            if task.cancelled():
                error = RemoteUnavailable("The call was cut short: the process forks or ends.")
            else:
                error = task.exception()
            if not future.set_running_or_notify_cancel():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        def left(future: concurrent.futures.Future[T]) -> None:
            if future.cancelled():
                try:
                    loop.call_soon_threadsafe(task.cancel)
                except RuntimeError:  # the loop is closed, the task over
                    pass

        task.add_done_callback(ended)
        future.add_done_callback(left)


_here = threading.local()
_current = IOThread()


def current() -> IOThread:
    """The calling process's thread, running or not."""
    return _current


def is_here() -> bool:
    """Whether the caller runs in the thread."""
    return getattr(_here, "is_io_thread", False)


def _before_fork() -> None:
    _current.before_fork()


def _after_fork_in_parent() -> None:
    _current.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _current
    _here.is_io_thread = False
    _current = IOThread()  # the old one's lock and thread are the parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(lambda: _current.stop())
