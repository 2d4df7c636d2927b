"""The messages of one process's own channels, between the source they came from and the coroutines that await them.

A source (the shared segment, a reader task of the remote) holds one queue for all process-specific channels of a
process. What it hands over is kept here, one bounded buffer of undecoded payloads per full channel name, until somebody
takes it. One slow consumer so costs only itself: beyond its capacity its own oldest message goes, and is counted.

Thread-safe: consumers may live in several event loops, and sources may deliver from any thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hybrid_layer.names import non_local
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import Counters
from hybrid_layer.waiters import Waiter, WaitQueue

_SWEEP_INTERVAL = 1.0
"""Seconds between two looks for expired messages that nobody receives."""
_TURNS = 16
"""Messages that `receive()` hands out without giving the event loop a turn."""


@dataclass(slots=True)
class _Channel:
    """Buffer and waiters of one full name. Kept only while it has either."""

    messages: deque[tuple[int, float, int, bytes]] = field(default_factory=deque)
    """(arrival number, deadline, epoch, payload), oldest first."""
    waiters: WaitQueue = field(default_factory=WaitQueue)


class Inbox:
    """Buffers by channel name, and who waits for them.

    `epoch` returns the number that a flush moves; what was delivered under an older one is discarded at hand-out.
    """

    def __init__(self, policy: Policy, statistics: Counters, epoch: Callable[[], int] = lambda: 0) -> None:
        self._policy = policy
        self._statistics = statistics
        self._epoch = epoch
        # Reentrant: the garbage collector may close a coroutine that was abandoned in receive() at any allocation, also
        # at one made under this lock, and its clean-up takes the lock again.
        self._lock = threading.RLock()
        self._channels: dict[str, _Channel] = {}
        self._waiting: dict[asyncio.AbstractEventLoop, int] = {}
        self._hungry: dict[str, asyncio.AbstractEventLoop] = {}
        self._hungry_in: dict[asyncio.AbstractEventLoop, int] = {}
        self._arrivals = 0
        self._next_sweep = 0.0
        self._turns = _TURNS

    def deliver(self, channels: Iterable[str], payload: bytes, deadline: float, epoch: int = 0) -> None:
        """Buffer one payload for each of `channels`. `deadline` is on the clock of `time.monotonic`, in seconds."""
        with self._lock:
            for name in channels:
                self._deliver(name, payload, deadline, epoch)
        if time.monotonic() >= self._next_sweep:
            self.sweep()

    def _deliver(self, name: str, payload: bytes, deadline: float, epoch: int) -> None:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel()
        self._arrivals += 1
        channel.messages.append((self._arrivals, deadline, epoch, payload))
        if len(channel.messages) > self._policy.capacity_for(name):
            channel.messages.popleft()
            self._statistics.count("slow")
            self._statistics.warn(
                ("slow", name),
                f"The consumer of {name} reads more slowly than messages arrive: its oldest unread message was "
                f"dropped. Its capacity is {self._policy.capacity_for(name)}; raise it with channel_capacity, or send "
                f"less.",
            )
        self._settle(name, channel)
        self._wake(name, channel)

    async def receive(self, name: str, poll: Callable[[], None]) -> bytes:
        """Wait for the next payload of `name`; with a name that ends in ``!``, of any channel of that part.

        `poll` pulls from the source what is there and may call `deliver`. It is called when this coroutine counts as
        waiting and each time before it sleeps, so a source that looks at `is_awaited` or `hungry_loop` afterwards
        cannot miss it.
        """
        if self._turns > 0 and not self._others_wait(name):
            payload = self.take(name)
            if payload is not None:
                self._turns -= 1
                return payload
        loop = asyncio.get_running_loop()
        waiter = self._join(name, loop)
        try:
            if self._turns <= 0:
                # A channel that is never empty would otherwise keep its consumer, and so the loop, busy for ever.
                poll()
                loop.call_soon(waiter.wake)
                await waiter.future
            self._turns = _TURNS
            while True:
                payload = self._take_or_rearm(name, waiter)
                if payload is not None:
                    return payload
                # Each time: what woke us may have expired or been flushed, and the source believed us served.
                poll()
                await waiter.future
        finally:
            self._leave(name, waiter)

    def take(self, name: str) -> bytes | None:
        """The next payload that is neither expired nor flushed, or None."""
        now = time.monotonic()
        with self._lock:
            source = name if not name.endswith("!") else self._oldest(name)
            channel = self._channels.get(source)
            if channel is None:
                return None
            payload = self._next(channel, now)
            self._settle(source, channel)
            return payload

    def is_awaited(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a coroutine of `loop` waits for any channel."""
        return loop in self._waiting

    def waiting_loops(self) -> list[asyncio.AbstractEventLoop]:
        """The loops in which somebody waits."""
        with self._lock:
            return list(self._waiting)

    def hungry_loop(self, preferred: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop | None:
        """A loop in which somebody waits with nothing there to take, if possible `preferred`. None when nobody does.

        A source that fetches for waiters who have something to take would only fill the buffers.
        """
        with self._lock:
            if preferred in self._hungry_in:
                return preferred
            return next(iter(self._hungry_in), None)

    def clear(self) -> None:
        """Forget every message; who waits goes on waiting."""
        with self._lock:
            for name in list(self._channels):
                self._channels[name].messages.clear()
                self._settle(name, self._channels[name])

    def sweep(self) -> None:
        """Free what expired unread, so that a closed consumer's messages do not stay for ever."""
        now = time.monotonic()
        with self._lock:
            self._next_sweep = now + _SWEEP_INTERVAL
            for name, channel in list(self._channels.items()):
                while channel.messages and channel.messages[0][1] <= now:
                    channel.messages.popleft()
                    self._statistics.count("expired")
                self._settle(name, channel)

    def _next(self, channel: _Channel, now: float) -> bytes | None:
        while channel.messages:
            _, deadline, epoch, payload = channel.messages.popleft()
            if epoch != self._epoch():
                continue
            if deadline <= now:
                self._statistics.count("expired")
                continue
            return payload
        return None

    def _oldest(self, part: str) -> str:
        """The channel of `part` whose first message arrived first. Linear, for a form of receive() that is rare."""
        best, best_arrival = part, float("inf")
        for name, channel in self._channels.items():
            if channel.messages and channel.messages[0][0] < best_arrival and name.startswith(part):
                best, best_arrival = name, channel.messages[0][0]
        return best

    def _others_wait(self, name: str) -> bool:
        channel = self._channels.get(name)
        return channel is not None and len(channel.waiters) > 0

    def _take_or_rearm(self, name: str, waiter: Waiter) -> bytes | None:
        # One step for everybody else: a message that came between the look and the re-arming would find the waiter
        # still marked as woken, wake nobody, and stay.
        with self._lock:
            may_take = waiter.woken or self._channels[name].waiters.is_first(waiter)
            if waiter.future.done():
                waiter.rearm()
            return self.take(name) if may_take else None

    def _settle(self, name: str, channel: _Channel) -> None:
        """After any change of a channel: note whether somebody waits in vain, forget the channel if it is empty."""
        old = self._hungry.pop(name, None)
        if old is not None:
            self._hungry_in[old] -= 1
            if not self._hungry_in[old]:
                del self._hungry_in[old]
        if channel.messages:
            return
        if channel.waiters:
            if name.endswith("!") and self._oldest(name) != name:
                return
            loop = self._hungry[name] = channel.waiters.first().loop
            self._hungry_in[loop] = self._hungry_in.get(loop, 0) + 1
        else:
            self._channels.pop(name, None)

    def _wake(self, name: str, channel: _Channel) -> None:
        if not channel.waiters.wake_next():
            whole = self._channels.get(non_local(name))
            if whole is not None:
                whole.waiters.wake_next()
                self._settle(non_local(name), whole)

    def _join(self, name: str, loop: asyncio.AbstractEventLoop) -> Waiter:
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = _Channel()
            self._waiting[loop] = self._waiting.get(loop, 0) + 1
            waiter = channel.waiters.join(loop)
            self._settle(name, channel)
            return waiter

    def _leave(self, name: str, waiter: Waiter) -> None:
        with self._lock:
            left = self._waiting.get(waiter.loop, 1) - 1
            if left:
                self._waiting[waiter.loop] = left
            else:
                self._waiting.pop(waiter.loop, None)
            channel = self._channels.get(name)
            if channel is None:  # its loop was closed without notice, and the place given up for it
                return
            channel.waiters.leave(waiter)
            # A wake is one message's; who leaves with more to take, or without having taken, passes it on. If there is
            # nothing more to take, the next one finds that out and polls: the source believed this channel served.
            self._wake(name, channel)
            self._settle(name, channel)
