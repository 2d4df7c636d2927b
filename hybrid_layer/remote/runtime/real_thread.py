# SPDX-License-Identifier: BSD-3-Clause
"""A thread of the operating system, even if gevent has replaced Python's threads by greenlets.

Greenlets share one thread, and a thread runs one event loop at a time, here the caller's.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any


def is_gevent() -> bool:
    """Whether Python's threads are greenlets."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def start_thread(target: Callable[[Callable[[], None]], None], name: str, patience: float) -> Thread:
    """Start a daemon thread that runs `target(begun)`, and wait until it calls `begun`, at most `patience` seconds."""
    begun = _original("allocate_lock")()
    begun.acquire()
    thread: Thread
    if is_gevent():
        thread = RealThread(partial(target, begun.release))
    else:
        thread = threading.Thread(target=target, args=[begun.release], name=name, daemon=True)
        thread.start()
    begun.acquire(timeout=patience)
    return thread


def _original(name: str) -> Any:
    """The function `name` of `_thread`, as it was before gevent replaced it."""
    return sys.modules["gevent.monkey"].get_original("_thread", name) if is_gevent() else getattr(_thread, name)


class RealThread:
    """A started thread that is no greenlet."""

    def __init__(self, target: Callable[[], None]) -> None:
        self._target = target
        self._runs = _original("allocate_lock")()
        self._runs.acquire()
        _original("start_new_thread")(self._run, ())

    def is_alive(self) -> bool:
        """Whether it runs."""
        return bool(self._runs.locked())

    def join(self, timeout: float) -> None:
        """Wait for its end, at most `timeout` seconds."""
        if self._runs.acquire(timeout=timeout):
            self._runs.release()

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._runs.release()


Thread = threading.Thread | RealThread
