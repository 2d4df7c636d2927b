# SPDX-License-Identifier: BSD-3-Clause
"""State that belongs to one event loop and ends with that loop.

asyncio has no hook for the end of a loop. But `asyncio.run`, `asgiref.async_to_sync` and every server call
`loop.shutdown_asyncgens()` before they close a loop. That closes the asynchronous generators that were started in the
loop, so we start one and wait in it. A loop that was closed without that call is noticed when state for another loop is
made.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def running() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, or None."""
    return asyncio._get_running_loop()


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Have `loop` call `callback` soon. May be called from any thread. False if the loop is closed."""
    try:
        if loop is running():
            loop.call_soon(callback)
        else:
            loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True


def leave_pending(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from warning when `task` is destroyed: its loop is gone, so the task stays pending for ever."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # there is no public way


class LoopLocal(Generic[T]):
    """One `T` per event loop, made at first use. `end` is called with it once, when its loop ends.

    `end` runs in the ending loop while that is still usable. If the loop was closed without notice, `end` runs later,
    in any thread; `loop.is_closed()` tells which. It must not block.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T], end: Callable[[T], None]) -> None:
        self._make = make
        self._end = end
        self._states: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        self._lock = threading.Lock()

    def get(self, loop: asyncio.AbstractEventLoop | None = None) -> T:
        """The state of the running loop, which callers that know it pass as `loop`.

        Raises `RuntimeError` if no loop is running.
        """
        loop = loop or asyncio.get_running_loop()
        entry = self._states.get(loop)
        return entry[0] if entry is not None else self._open(loop)

    def peek(self, loop: asyncio.AbstractEventLoop) -> T | None:
        """The state of `loop`, or None."""
        entry = self._states.get(loop)
        return entry[0] if entry is not None else None

    def all(self) -> list[T]:
        """The states of all loops, of any thread."""
        # list() copies in one step. A forked child calls this, too, and may have inherited a lock in its locked state.
        return [state for state, _ in list(self._states.values())]

    def drop(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the state of `loop` now, as if the loop had ended. Does nothing if there is none."""
        with self._lock:
            entry = self._states.get(loop)
        if entry is not None:
            with contextlib.suppress(StopIteration):
                entry[1].aclose().send(None)  # its clean-up awaits nothing, so this runs all of it

    def _open(self, loop: asyncio.AbstractEventLoop) -> T:
        for other in list(self._states):
            if other.is_closed():
                self.drop(other)
        state = self._make(loop)
        sentinel = self._until_end(loop, state)
        with self._lock:
            # Kept, since the garbage collector would close the generator, and the state with it.
            self._states[loop] = (state, sentinel)
        with contextlib.suppress(StopIteration):
            sentinel.__anext__().send(None)  # runs up to its yield without suspending, and registers with the loop
        return state

    async def _until_end(self, loop: asyncio.AbstractEventLoop, state: T) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                self._states.pop(loop, None)
            self._end(state)
