"""With pub/sub: messages that look expired wait here until the server has said what time it is.

Its clock may have been set since the message was stamped. What comes after a doubted message waits too, so that the
order stays.
"""

from __future__ import annotations

import concurrent.futures
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_layer.clock import STAMPS_FOR, boottime, monotonic
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.store import Entry, Store
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.supervision import Guard


@dataclass(frozen=True, slots=True)
class _Doubted:
    entry: Entry
    channels: Sequence[str]
    generation: int
    fresh_until: float
    """On `boottime`: before that it cannot have expired."""


class Doubts:
    """Delivers to the channels of one process. Any thread may call."""

    def __init__(self, context: Context, store: Store, guard: Guard) -> None:
        self._context = context
        self._store = store
        self._guard = guard
        self._lock = threading.Lock()
        self._doubted: deque[_Doubted] = deque()
        self.subscribed_since = -math.inf
        """When the connection that delivers began, on `boottime`."""

    def deliver(self, entry: Entry, channels: Sequence[str], generation: int) -> None:
        """Give `entry` to `channels` now, or when it is known that it has not expired."""
        left = self._context.home.clock.left(entry.stamp_ms)
        if left <= 0 or self._doubted:
            self._doubt(_Doubted(entry, channels, generation, self._fresh_until(entry)))
        else:
            self._context.inbox.deliver(channels, entry.payload, monotonic() + left, generation)

    def _fresh_until(self, entry: Entry) -> float:
        """Until when what just came cannot have expired, whatever its stamp says.

        Its sender may go by a clock that was set before this process could see it, but not for long; and what comes
        over a connection was sent after that began.
        """
        policy, age = self._context.policy, boottime() - self.subscribed_since
        if entry.epoch or age >= min(STAMPS_FOR, policy.expiry):
            return -math.inf  # stamped by the server's clock, or by what was learnt of it since
        return self.subscribed_since + policy.expiry

    def _doubt(self, doubted: _Doubted) -> None:
        with self._lock:
            self._doubted.append(doubted)
            if len(self._doubted) > 1:
                return
        answer = io_thread.current().submit(lambda: self._store.measure(self._context.home))
        answer.add_done_callback(self._settle_all)

    def _settle_all(self, answer: concurrent.futures.Future[None]) -> None:
        if not answer.cancelled():
            answer.exception()  # where the server does not answer, what is known has to do
        with self._lock:
            while self._doubted:
                with self._guard:
                    self._settle(self._doubted[0])
                self._doubted.popleft()  # only now, or what comes next would overtake it

    def _settle(self, doubted: _Doubted) -> None:
        context, entry = self._context, doubted.entry
        left = context.home.clock.left(entry.stamp_ms)
        if left <= 0:
            left = doubted.fresh_until - boottime()
        if left <= 0:
            context.statistics.count("expired", len(doubted.channels))
        else:
            context.inbox.deliver(doubted.channels, entry.payload, monotonic() + left, doubted.generation)
