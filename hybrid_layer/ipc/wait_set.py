# SPDX-License-Identifier: BSD-3-Clause
"""What one event loop needs to wait at the shared segment: a doorbell, its sleep, and coroutines that wait.

The segment counts the loop as asleep only after the loop has said so, in one step with a last look: a pop that finds
nothing (`_pop`), or `_settle`. Until then no process rings it, which is half of the throughput, and channels with new
messages are put on its ready list. So everything that wakes the loop or takes a message schedules a `_settle` after the
coroutines that can run now.

All methods but `wake` are called in the wait set's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from hybrid_layer.inbox import WaitQueue, Waker
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.attachment import Attachment
from hybrid_layer.ipc.objects import Descriptor, make_doorbell
from hybrid_layer.ipc.stall_detector import LOCK_REFUSED, PAUSE
from hybrid_layer.loops import running
from hybrid_layer.statistics import KEYS, warn
from hybrid_layer.supervision import Count, Guard, apart
from hybrid_layer.timers import Timer, call_later

REPOLL = 0.25
"""Seconds between two housekeepings of a loop that waits for normal channels: a message may have been announced to
another process, which is busy, stopped or dead."""
_INBOX_REPOLL = 1.0
"""The same for a loop that waits only for inboxes, which no other process reads: a sender may die before it rings."""
_UNRUNG_REPOLL = 0.005
"""The same for a loop without a doorbell: the process has more loops than its slot has places."""
_BUDGET = 16
"""Messages that `receive` returns before it lets the event loop run other coroutines."""


class WaitSet:
    """The coroutines of `loop` that wait at `segment`. Made in the loop."""

    def __init__(self, segment: Attachment, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._segment = segment
        self._queues: dict[str, WaitQueue] = {}
        self._registered: set[str] = set()
        """Channels for which the segment has this loop as a waiter. For others, a coroutine is about to look."""
        self._stale: set[str] = set()
        """Other channels and inboxes for which the segment may still have this loop as a waiter."""
        self._inboxes: dict[str, tuple[Callable[[], None], Callable[[], bool]]] = {}
        """By inbox: a function that takes in its messages, and one that says whether a coroutine of this loop waits."""
        self.watched: set[str] = set()
        """Inboxes that were empty at the last look, and have announced nothing since."""
        self._budget = _BUDGET
        self._settling = False
        self._asleep = False
        """The segment counts the loop as asleep, and no process has woken it since: there is nothing to collect."""
        self._timer: Timer | None = None
        self._is_timer_slow = False
        """The timer is too slow for a coroutine that waits for a normal channel."""
        count: Count = lambda key: segment.core.count(KEYS.index(key), 1)  # noqa: E731
        self._guard = Guard("the watch over shared memory", count, self._look_again)
        self._retries: dict[str, Callable[[], None]] = {}
        """What to try again, since another process held the segment's lock."""
        self._open()

    def _open(self) -> None:
        if self._segment.has_changed_user():
            self._segment.recover_if_lost()  # we cannot make a doorbell in the old user's directory
        self._segment.run_deferred()
        core = self._segment.core
        self._core: _core.Segment | None = core
        """The segment in which our place is. None: the place is lost."""
        self._rebuilds = core.rebuilds
        self._asleep = False
        self._bell = Descriptor()
        self._path = ""
        try:
            self.number = core.open_loop()
            """The number of our place, which the core gives to no other loop of the process. -1: none."""
            self._path = core.doorbell(self.number)
        except (_core.NoSlot, _core.Detached, _core.Stale, *LOCK_REFUSED):
            self.number = -1
            return
        try:
            self._bell = make_doorbell(self._path)
            apart(self.loop.add_reader, self._bell.fd, self._on_ring)
        except OSError as error:
            warn(("doorbell", self._path), f"Cannot make {self._path}: {error}. Polling for messages instead.")
            self._bell.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self._close_place()
            return
        self._segment.wakers[self.number % _core.LOOPS] = self.wake

    def close(self) -> None:
        """Remove the doorbell, and give the loop's place back. A forked child only closes descriptors."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bell.fd >= 0 and self._segment.is_own():
            if not self.loop.is_closed():
                self.loop.remove_reader(self._bell.fd)
            self.remove_doorbell()
        self._bell.close()
        self._close_place()

    def _close_place(self) -> None:
        number, self.number = self.number, -1
        if number < 0:
            return
        place = number % _core.LOOPS
        if self._segment.wakers.get(place) == self.wake:  # not that of another loop with this number, after a move
            del self._segment.wakers[place]
        if self._segment.is_own():
            self._segment.defer(lambda core: core.close_loop(number))

    def remove_doorbell(self) -> None:
        """Remove the doorbell's file, unless another process has put its own there, in another segment."""
        with contextlib.suppress(OSError):
            if self._bell.is_at(self._path):
                os.unlink(self._path)

    def is_in_use(self) -> bool:
        """Whether a coroutine of this loop waits."""
        return bool(self._queues) or any(is_awaited() for _, is_awaited in self._inboxes.values())

    # Normal channels

    async def receive(self, channel: str) -> bytes:
        """Wait for the next payload of `channel`, a normal one. A cancellation at any point loses nothing."""
        queue = self._queues.get(channel)
        if queue is None:
            if self._budget > 0:
                payload = self._pop(channel)
                if payload is not None:
                    self._budget -= 1
                    return payload
            queue = self._queues[channel] = WaitQueue()
        waiter = queue.join(self.loop)
        if self._timer is None or self._is_timer_slow:
            self._start_timer()
        try:
            if self._budget <= 0 and queue.is_first(waiter):
                # A channel that is never empty would otherwise keep the loop busy for ever.
                waiter.wake_later()
            self._budget = _BUDGET
            while True:
                # The channel was empty, and this loop is its waiter; or it is looked at in a moment; or another
                # coroutine here has waited longer.
                await waiter
                # No await between this and the return: a cancellation has nothing to put back.
                payload = self._pop(channel)
                if payload is not None:
                    waiter.woken = False
                    return payload
                waiter.rearm()
        finally:
            queue.leave(waiter)
            if queue:
                if waiter.woken or channel not in self._registered:
                    queue.wake_next(Waker(running()))  # the wake was not used, or no other one will come
                self.settle_soon()
            else:
                del self._queues[channel]
                if channel in self._registered:
                    self._registered.remove(channel)
                    self._stale.add(channel)
                    self.settle_soon()

    def _note_registered(self, channel: str) -> None:
        self._registered.add(channel)
        self._stale.discard(channel)

    def _pop(self, channel: str) -> bytes | None:
        try:
            payload, loops, asleep = self._segment.core.pop(channel, self.number)
        except (_core.NoMemory, *LOCK_REFUSED):
            # We are not registered, since the lock, or a block for a waiter, is not available. So we look again by
            # ourselves. Senders get the reason as an error.
            self.retry_soon("wake", self._wake_all)
            return None
        except _core.Stale:
            self.lose_place()
            return None
        except _core.Detached:
            return None  # the interpreter is ending
        if payload is None:
            self._note_registered(channel)
            self._asleep = asleep
            if not asleep or self._rebuilds != self._segment.core.rebuilds:
                self.settle_soon()  # a repair may have removed this loop as a waiter
        if loops:
            self._segment.wake_loops(loops)  # this loop, too, so only after its sleep is noted
        return payload

    # Inboxes

    def attend(self, inbox: str, take_in: Callable[[], None], is_awaited: Callable[[], bool]) -> None:
        """Call `take_in` whenever `inbox` may have messages, while `is_awaited` returns True."""
        self._inboxes[inbox] = (take_in, is_awaited)
        if self._timer is None:
            self._start_timer()
        self.settle_soon()

    # Sleeping and waking

    def wake(self) -> None:
        """Look for messages. From any thread."""
        if running() is self.loop:
            self._get_up()
        else:
            # After the loop's present step, which may be a pop that finds nothing and then notes that it sleeps.
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._get_up)

    def _get_up(self) -> None:
        self._asleep = False
        self.settle_soon()

    def settle_soon(self) -> None:
        """After the coroutines that can run now, look for messages. If there are none, go to sleep."""
        # Not if the loop was closed while a coroutine waited, which the garbage collector now closes.
        if not self._settling and not self.loop.is_closed():
            self._settling = True
            self.loop.call_soon(self._settle)

    def retry_soon(self, key: str, callback: Callable[[], None]) -> None:
        """Call `callback` after a pause, once for each `key`, however often it was requested."""
        if not self._retries:
            call_later(self.loop, PAUSE, self._retry)
        self._retries[key] = callback

    def _retry(self) -> None:
        retries, self._retries = self._retries, {}
        for callback in retries.values():
            with self._guard:
                callback()

    def _look_again(self, error: Exception) -> None:
        """Announcements may be lost, so everything is looked at again, at the latest by the timer."""
        self._settling = self._asleep = False
        self._rebuilds = -1
        if self._timer is None:
            self._start_timer()

    def _on_ring(self) -> None:
        try:
            os.read(self._bell.fd, 4096)
        except BlockingIOError:
            pass  # emptied by other code
        self._asleep = False
        self._settle()

    def lose_place(self) -> None:
        """Take another place soon: ours is damaged, or in a segment or slot that the process has left."""
        self._core = None
        self._get_up()

    def _settle(self) -> None:
        with self._guard:
            self._settling = False
            core = self._segment.core
            if self._asleep and not self._stale and self._rebuilds == core.rebuilds and self._core is core:
                return  # later messages ring
            if not self._segment.is_own():
                return
            if self._core is not core:
                self._reopen()
                core = self._segment.core
            try:
                self._unwait_stale()
                ready = None
                if self.number >= 0 and not self._asleep:
                    ready = core.collect(self.number, True)
                    self._asleep = ready is None
                if self._rebuilds != core.rebuilds:
                    self._rebuilds = core.rebuilds
                    self._register_again()
                    return
            except (_core.Busy, _core.Damaged, _core.NoMemory, OSError):
                self._settling = True
                self.retry_soon("settle", self._settle)
                return
            except _core.Stale:
                self.lose_place()
                return
            except (_core.Detached, _core.Retired):
                return  # the next housekeeping moves
            if ready is not None:
                for name in ready:
                    self._notify(name)
                self.settle_soon()

    def _notify(self, name: str) -> None:
        attended = self._inboxes.get(name)
        if attended is not None:
            self.watched.discard(name)
            attended[0]()
            return
        queue = self._queues.get(name)
        if queue is not None:
            queue.wake_next(Waker(self.loop))

    def _unwait_stale(self) -> None:
        """Unregister where no coroutine of this loop waits any more, so that other waiters are woken."""
        for name, (_, is_awaited) in list(self._inboxes.items()):
            if not is_awaited():
                del self._inboxes[name]
                self.watched.discard(name)
                self._stale.add(name)
        while self._stale:
            name = self._stale.pop()
            if name in self._inboxes or self.number < 0:
                continue
            try:
                loops = self._segment.core.unwait(name, self.number)
            except LOCK_REFUSED:
                self._stale.add(name)
                raise
            if loops:
                self._segment.wake_loops(loops)

    def _register_again(self) -> None:
        """Register again: the segment was repaired, or is a new one."""
        self._registered.clear()
        self._stale.clear()
        self.watched.clear()
        self._take_in_all()
        self._wake_all()
        self._get_up()

    def _take_in_all(self) -> None:
        for take_in, _ in list(self._inboxes.values()):
            take_in()

    def _wake_all(self) -> None:
        waker = Waker(self.loop)
        for queue in self._queues.values():
            queue.wake_next(waker)

    def _reopen(self) -> None:
        """Take a new place and doorbell: the process may have another slot, or another segment."""
        self.close()
        self._open()
        self._start_timer()
        self._register_again()

    # Housekeeping

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._is_timer_slow = self.number >= 0 and not self._queues
        fast = REPOLL if self.number >= 0 else _UNRUNG_REPOLL
        self._timer = call_later(self.loop, _INBOX_REPOLL if self._is_timer_slow else fast, self._repoll)

    def _repoll(self) -> None:
        self._timer = None
        if not self._segment.is_own() or not (self._queues or self._inboxes):
            return
        self._start_timer()
        with self._guard:
            self._housekeep()

    def _housekeep(self) -> None:
        self._segment.run_deferred()
        core = self._segment.core
        try:
            if self._segment.recover_if_lost():
                pass  # the next settling registers in the new one
            elif self.number < 0 or not self._bell.is_at(self._path):
                self._reopen()  # a place may be free by now, or the doorbell was removed
            else:
                self._look_by_name(core)
        except _core.Stale:
            self._reopen()
        except (_core.Detached, _core.NoMemory, *LOCK_REFUSED):
            return  # the next round tries again
        self._segment.tidy_up()
        self._asleep = False
        self._settle()  # at once, since a callback costs as much again

    def _look_by_name(self, core: _core.Segment) -> None:
        """Look at each channel by its name: damage may have cut this loop off from the list of waiters."""
        for channel in list(self._queues):
            core.wait(channel, self.number)
            self._note_registered(channel)
        core.repoll(self.number)
        self._take_in_all()
