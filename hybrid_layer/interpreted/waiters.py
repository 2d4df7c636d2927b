# SPDX-License-Identifier: BSD-3-Clause
"""Coroutines that wait for the same thing, oldest first.

A wake is a hint and hands nothing over: the woken coroutine looks for itself and takes what it finds synchronously,
just before it returns. So a cancellation between wake and look has nothing to put back; it only passes the wake on.

A waiter is awaited in place of an `asyncio.Future`, by the protocol that tasks speak with any future-like object (see
`asyncio.isfuture`). So a message to many members takes one callback of the loop, which resumes all of them, where
futures take one each: to make those costs more than everything else about a wake.

A queue does no locking: its owner calls it either from one loop only or under a lock of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context, copy_context


class Waiter:
    """One coroutine in a `receive()`."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_further",
        "_message",
        "loop",
        "ready",
        "woken",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.woken = False
        """Somebody has woken it, perhaps in another thread."""
        self.ready = False
        """It goes on as soon as its loop comes to it: woken, and the loop knows, or cancelled."""
        self._cancelled = False
        self._message: object = None
        # A task adds one callback. A list for it would keep the collector busier than all else here.
        self._callback: Callable[[Waiter], object] | None = None
        self._context: Context | None = None
        self._further: list[tuple[Callable[[Waiter], object], Context]] | None = None
        self._asyncio_future_blocking = False

    def __repr__(self) -> str:
        state = "cancelled" if self._cancelled else "ready" if self.ready else "woken" if self.woken else "waiting"
        return f"<Waiter {state}>"

    def wake_later(self) -> None:
        """Wake it after the loop has had a turn. Called in the loop."""
        self.woken = True
        self.loop.call_soon(self.seen)

    def rearm(self) -> None:
        """Wait again, in the old place, after a wake that led to nothing."""
        self.woken = self.ready = False

    def seen(self) -> None:
        """Go on: the loop has seen the wake."""
        self.ready = True
        self.resume()

    def resume(self) -> None:
        """Go on, if it is ready and has not. Called by the loop."""
        callback, context, further = self._callback, self._context, self._further
        if self.ready and callback is not None and context is not None:
            self._callback = self._further = None
            context.run(callback, self)
            if further is not None:
                for callback, context in further:
                    context.run(callback, self)

    # What a task wants of a future. It is awaited by one task at a time, in its own loop.

    def __await__(self) -> Generator[Waiter, None, None]:
        if not self.ready:
            self._asyncio_future_blocking = True
            yield self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context | None = None) -> None:
        if context is None:
            context = copy_context()
        if self._callback is None:
            self._callback, self._context = callback, context
        else:
            self._further = [*(self._further or ()), (callback, context)]

    def cancel(self, msg: object = None) -> bool:
        if self.ready:
            return False
        self.ready = self._cancelled = True
        self._message = msg
        self.loop.call_soon(self.resume)
        return True

    def result(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)


class Waker:
    """Wakes any number of waiters at one moment, from any thread.

    Those of the loop that runs there go on together. Which one that is, is asked once: until Python 3.12 the answer
    takes a system call.
    """

    __slots__ = ("_here", "_together")

    def __init__(self, here: asyncio.AbstractEventLoop | None) -> None:
        self._here = here
        self._together: deque[Waiter] = deque()

    def wake(self, waiter: Waiter, behind: bool = False) -> bool:
        """Wake `waiter`. False: its loop is gone, so wake another.

        With `behind`, after those that other threads have woken and the loop has not yet seen.
        """
        loop = waiter.loop
        waiter.woken = True
        if not behind and loop is self._here:
            if not waiter.ready:
                waiter.ready = True
                self._together.append(waiter)
                if len(self._together) == 1:
                    _surely(loop.call_soon, self)
            return True
        try:
            _surely(loop.call_soon_threadsafe, waiter.seen)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def __call__(self) -> None:
        """Have them go on. Called by the loop.

        If one of them runs the loop again, as with nest_asyncio, or lets KeyboardInterrupt through, the rest goes on in
        another callback.
        """
        waiters = self._together
        if len(waiters) > 1:
            waiters[0].loop.call_soon(self)
        while waiters:
            waiters.popleft().resume()


def _surely(call_soon: Callable[[Callable[[], None]], object], callback: Callable[[], None]) -> None:
    """Have the loop call back, also if a signal handler raises meanwhile: who is marked as woken is not woken again."""
    try:
        call_soon(callback)
    except BaseException:
        call_soon(callback)  # a callback that is called twice does nothing the second time
        raise


class WaitQueue:
    """Waiters in the order of their arrival."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        # A list, although it is taken from in front: there is hardly ever more than one, and an empty deque has ten
        # times the size.
        self._waiters: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, loop: asyncio.AbstractEventLoop) -> Waiter:
        """Take a place behind all others."""
        if self._waiters:
            self.forget_closed()
        waiter = Waiter(loop)
        self._waiters.append(waiter)
        return waiter

    def forget_closed(self) -> None:
        """Drop who waits in front in a loop that was closed without notice: such a one never leaves by itself."""
        while self._waiters and (first := self._waiters[0]).loop.is_closed():
            self.leave(first)  # who may have left meanwhile, if the collector closed its coroutine

    def leave(self, waiter: Waiter) -> None:
        """Give the place up."""
        waiters = self._waiters
        if waiters and waiters[0] is waiter:  # nearly always: the oldest is served first
            del waiters[0]
        elif waiter in waiters:
            waiters.remove(waiter)

    def wake_next(self, waker: Waker) -> Waiter | None:
        """Wake the oldest waiter that was not woken yet, and tell which. None when there is none."""
        behind = False
        for waiter in tuple(self._waiters):  # in between, the collector may close a coroutine, which then leaves
            if waiter.woken:
                behind = behind or not waiter.ready
            elif waiter in self._waiters and waker.wake(waiter, behind):
                return waiter
        return None

    def is_first(self, waiter: Waiter) -> bool:
        """Whether nobody has waited longer."""
        return self._waiters[0] is waiter
