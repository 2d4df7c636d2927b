# SPDX-License-Identifier: BSD-3-Clause
"""The messages of one process's own channels, between the source they came from and the coroutines that await them.

A source (the shared segment, a reader task of the remote) holds one queue for all process-specific channels of a
process. What it hands over is kept here, one bounded buffer of undecoded payloads per full channel name, until somebody
takes it. One slow consumer so costs only itself: beyond its capacity its own oldest message goes, and is counted.

A waiter is *unserved* while nothing was delivered for it. A source fetches only while somebody is: for waiters who have
something to take it would only fill the buffers.

Thread-safe: consumers may live in several event loops, and sources may deliver from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable

from hybrid_layer.clock import monotonic
from hybrid_layer.interpreted.waiters import Waiter, WaitQueue, Waker
from hybrid_layer.loops import running
from hybrid_layer.names import non_local
from hybrid_layer.policy import Policy
from hybrid_layer.source import Source
from hybrid_layer.statistics import Counters, tell_slow

_SWEEP_INTERVAL = 1.0
"""Seconds between two looks for expired messages that nobody receives."""
_FEW = 64
"""Idle channels that nobody cares to look through."""
_BUDGET = 16
"""Messages that `receive()` hands out without giving the event loop a turn."""


class _Message:
    """What was delivered at one moment, to any number of channels."""

    __slots__ = ("arrival", "deadline", "generation", "payload")

    def __init__(self, arrival: int, deadline: float, generation: int, payload: bytes) -> None:
        self.arrival = arrival
        self.deadline = deadline
        self.generation = generation
        self.payload = payload


class _Channel:
    """Buffer and waiters of one full name.

    One that has neither stays until the next sweep: its consumer is likely to come back at once.
    """

    __slots__ = ("is_whole", "messages", "waiters")

    def __init__(self, name: str) -> None:
        self.is_whole = name.endswith("!")
        self.messages: deque[_Message] = deque()
        """Oldest first."""
        self.waiters = WaitQueue()


class _Loop:
    """How many coroutines of one event loop wait, and how many of them with nothing to take."""

    __slots__ = ("unserved", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.unserved = 0


class Inbox:
    """Buffers by channel name, and who waits for them.

    `generations` returns the numbers that no flush has ended yet, one for each server. A message of another one is
    dropped when it would be taken. None: no message is ever flushed that way.
    """

    def __init__(
        self, policy: Policy, statistics: Counters, generations: Callable[[], Collection[int]] | None = None
    ) -> None:
        self._policy = policy
        self._statistics = statistics
        self._generations = generations
        # Reentrant: the garbage collector may close a coroutine that was abandoned in a receive() at any allocation,
        # also at one made under this lock, and its clean-up takes the lock again.
        self._lock = threading.RLock()
        self._channels: dict[str, _Channel] = {}
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._arrivals = 0
        self._next_sweep = 0.0
        self._budget = _BUDGET
        self._most = _FEW
        """Channels, from which on another one is a reason to look for those that are idle."""

    # The source's side

    def deliver(self, channels: Iterable[str], payload: bytes, deadline: float, generation: int = 0) -> None:
        """Buffer one payload for each of `channels`. `deadline` is on the clock of `hybrid_layer.clock`, in seconds."""
        with self._lock:
            self._arrivals += 1
            message = _Message(self._arrivals, deadline, generation, payload)
            known = self._channels
            waker = Waker(running())
            slow = []
            for name in channels:
                channel = known.get(name) or self._add_channel(name)
                messages = channel.messages
                messages.append(message)
                if len(messages) > 1 and len(messages) > self._policy.capacity_for(name):
                    messages.popleft()
                    slow.append(name)
                self._wake(name, channel, waker)
        for name in slow:  # not under the lock, which a thread inside a handler of the log may be waiting for
            tell_slow(self._statistics, self._policy, name)
        if monotonic() >= self._next_sweep:
            self.sweep()

    def unserved_loop(self, preferred: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop | None:
        """A loop in which somebody waits with nothing there to take, if possible `preferred`. None when nobody does."""
        with self._lock:
            counts = self._loops.get(preferred)
            if counts is not None and counts.unserved > 0:
                return preferred
            for loop, counts in list(self._loops.items()):
                if counts.unserved > 0 and not loop.is_closed():
                    return loop
            return None

    def is_awaited(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a coroutine of `loop` waits for any channel."""
        counts = self._loops.get(loop)
        return counts is not None and counts.waiting > 0

    def is_waited_on(self, name: str) -> bool:
        """Whether a coroutine waits for the channel `name`."""
        channel = self._channels.get(name)
        return channel is not None and len(channel.waiters) > 0

    def clear(self) -> None:
        """Forget every message; who waits goes on waiting."""
        with self._lock:
            for channel in list(self._channels.values()):
                channel.messages.clear()

    def sweep(self) -> None:
        """Free what expired unread, so that a closed consumer's messages do not stay for ever, and what is idle."""
        now = monotonic()
        with self._lock:
            waker = Waker(running())
            self._next_sweep = now + _SWEEP_INTERVAL
            # Nothing else forgets a channel. What the collector runs in between may leave it, but not take it from
            # somebody who has it in hand.
            for name in list(self._channels):
                channel = self._channels[name]
                while channel.messages and channel.messages[0].deadline <= now:
                    channel.messages.popleft()
                    self._statistics.count("expired")
                channel.waiters.forget_closed()
                if not channel.messages and not channel.waiters:
                    del self._channels[name]
                elif channel.messages:
                    self._wake(name, channel, waker)  # a message's waiter may just have been forgotten
            self._most = 2 * len(self._channels) + _FEW
            self._forget_closed()

    def _wake(self, name: str, channel: _Channel, waker: Waker) -> None:
        """Wake the coroutine that has waited longest for `name`, or else for its whole inbox."""
        if not channel.waiters or not self._wake_next(channel, waker):
            whole = self._channels.get(non_local(name))
            if whole is not None and whole.waiters:
                self._wake_next(whole, waker)

    def _wake_next(self, channel: _Channel, waker: Waker) -> bool:
        waiter = channel.waiters.wake_next(waker)
        if waiter is None:
            return False
        counts = self._loops.get(waiter.loop)
        if counts is not None:
            counts.unserved -= 1
        return True

    # The consumer's side

    async def receive(self, name: str, source: Source, loop: asyncio.AbstractEventLoop) -> bytes:
        """Wait in `loop`, which runs here, for the next payload of `name`, or of any channel of an inbox ``name!``."""
        with self._lock:
            channel = self._channels.get(name) or self._add_channel(name)
            payload = self._take_now(name, channel) if channel.messages or channel.is_whole else None
            if payload is None:
                counts = self._loops.get(loop) or self._add_loop(loop)
                waiter = self._join(channel, counts, loop)
        while payload is None:
            try:
                # If what woke us has expired, was flushed or taken, the source is asked again: it believed us served.
                if not waiter.woken:
                    source.poll(loop)
                await waiter
            except BaseException as error:
                with self._lock:
                    self._give_up(name, channel, waiter, counts)
                if isinstance(error, asyncio.CancelledError):
                    source.on_cancel(loop)
                raise
            # One step for everybody else: a message that came between the look and the re-arming would find the waiter
            # still marked as woken, wake nobody, and stay.
            with self._lock:
                payload = self._take(name, channel)
                if payload is None:
                    if waiter.woken:
                        counts.unserved += 1
                    waiter.rearm()
                else:
                    self._give_up(name, channel, waiter, counts)
        self._statistics.count("received")
        return payload

    def _take(self, name: str, channel: _Channel) -> bytes | None:
        """The next payload that is neither expired nor flushed, or None."""
        if not channel.is_whole:
            return self._take_from(channel)
        while True:
            oldest = self._channels.get(self._oldest(name))
            if oldest is None or not oldest.messages:
                return None
            payload = self._take_from(oldest)
            if payload is not None:
                return payload
            # Its messages had expired. Another channel may have one that has not.

    def _take_from(self, channel: _Channel) -> bytes | None:
        messages = channel.messages
        while messages:
            # Before the message is taken: a signal handler may raise, and then it has to stay.
            generations = None if self._generations is None else self._generations()
            message = messages.popleft()
            if generations is not None and message.generation not in generations:
                continue
            if message.deadline > monotonic():
                return message.payload
            self._statistics.count("expired")
        return None

    def _take_now(self, name: str, channel: _Channel) -> bytes | None:
        """The next payload, if nobody else waits and this consumer need not give the loop a turn first."""
        if self._budget <= 0 or channel.waiters:
            return None
        payload = self._take(name, channel)
        if payload is not None:
            self._budget -= 1
        return payload

    def _join(self, channel: _Channel, counts: _Loop, loop: asyncio.AbstractEventLoop) -> Waiter:
        waiters = channel.waiters
        waiter = waiters.join(loop)
        counts.waiting += 1
        if len(channel.messages) >= len(waiters) or (self._budget <= 0 and channel.is_whole):
            # There is one for it, but it gives the loop a turn first: a channel that is never empty would otherwise
            # keep its consumer, and so the loop, busy for ever.
            waiter.wake_later()
        else:
            counts.unserved += 1
        self._budget = _BUDGET
        return waiter

    def _give_up(self, name: str, channel: _Channel, waiter: Waiter, counts: _Loop) -> None:
        counts.waiting -= 1
        if not waiter.woken:
            counts.unserved -= 1
        channel.waiters.leave(waiter)
        # A wake is one message's; who leaves with more to take, or without having taken, passes it on.
        if channel.messages:
            self._wake(name, channel, Waker(running()))
        elif channel.is_whole and channel.waiters and self._oldest(name) != name:
            self._wake_next(channel, Waker(running()))

    def contents(self) -> dict[str, tuple[list[float], int]]:
        """The deadlines of the messages, oldest first, and the number of waiters of each channel. For tests."""
        with self._lock:
            return {
                name: ([message.deadline for message in channel.messages], len(channel.waiters))
                for name, channel in self._channels.items()
            }

    # Steps

    def _oldest(self, inbox: str) -> str:
        """The channel of `inbox` whose first message arrived first. Linear, for a form of receive() that is rare."""
        best, best_arrival = inbox, self._arrivals + 1
        for name, channel in self._channels.items():
            if channel.messages and channel.messages[0].arrival < best_arrival and name.startswith(inbox):
                best, best_arrival = name, channel.messages[0].arrival
        return best

    def _add_channel(self, name: str) -> _Channel:
        if monotonic() >= self._next_sweep or len(self._channels) >= self._most:
            self.sweep()
        channel = self._channels[name] = _Channel(name)
        return channel

    def _add_loop(self, loop: asyncio.AbstractEventLoop) -> _Loop:
        self._forget_closed()
        counts = self._loops[loop] = _Loop()
        return counts

    def _forget_closed(self) -> None:
        for loop in list(self._loops):
            if loop.is_closed():  # perhaps under its waiters, which will never leave
                self._loops.pop(loop, None)
