"""Coroutines that wait for the same thing, oldest first.

A wake is a hint and hands nothing over: the woken coroutine looks for itself and takes what it finds synchronously,
just before it returns. So a cancellation between wake and look has nothing to put back; it only passes the wake on.

Which loop runs is asked once for many wakes, by who wakes: until Python 3.12 the answer takes a system call.

A queue does no locking: its owner calls it either from one loop only or under a lock of its own.
"""

from __future__ import annotations

import asyncio


class Waiter:
    """One coroutine in a `receive()`."""

    __slots__ = ("future", "loop", "woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.woken = False
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self, here: asyncio.AbstractEventLoop | None, behind: bool = False) -> bool:
        """Wake the coroutine, from any thread, in which `here` runs. False: its loop is gone, so wake another.

        With `behind`, after those that other threads have woken and the loop has not yet seen.
        """
        self.woken = True
        if not behind and here is self.loop:
            if not self.future.done():
                self.future.set_result(None)
            return True
        try:
            self.loop.call_soon_threadsafe(_set, self.future)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def rearm(self) -> None:
        """Wait again, in the old place, after a wake that led to nothing."""
        self.future = self.loop.create_future()
        self.woken = False


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class WaitQueue(list[Waiter]):
    """Waiters in the order of their arrival.

    A list, although it is taken from in front: there is hardly ever more than one, and an empty deque has ten times the
    size.
    """

    __slots__ = ()

    def join(self, loop: asyncio.AbstractEventLoop) -> Waiter:
        """Take a place behind all others."""
        if self:
            self.forget_closed()
        waiter = Waiter(loop)
        self.append(waiter)
        return waiter

    def forget_closed(self) -> None:
        """Drop who waits in front in a loop that was closed without notice: such a one never leaves by itself."""
        while self and (first := self[0]).loop.is_closed():
            self.leave(first)  # who may have left meanwhile, if the collector closed its coroutine

    def leave(self, waiter: Waiter) -> None:
        """Give the place up."""
        if self and self[0] is waiter:  # nearly always: the oldest is served first
            del self[0]
        elif waiter in self:
            self.remove(waiter)

    def wake_next(self, here: asyncio.AbstractEventLoop | None) -> Waiter | None:
        """Wake the oldest waiter that was not woken yet, and tell which. None when there is none.

        `here` is the loop that runs in this thread, if one does.
        """
        behind = False
        for waiter in tuple(self):  # in between, the collector may close a coroutine, which then leaves
            if waiter.woken:
                behind = behind or not waiter.future.done()
            elif waiter in self and waiter.wake(here, behind):
                return waiter
        return None

    def is_first(self, waiter: Waiter) -> bool:
        """Whether nobody has waited longer."""
        return self[0] is waiter
