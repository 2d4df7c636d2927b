# SPDX-License-Identifier: BSD-3-Clause
"""With pub/sub, messages that seem expired wait here until the server's clock is measured.

The clock may have been set since the message was stamped. Messages behind a doubted one wait, too, to keep their order.
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
from hybrid_layer.remote.delivery.replies import Entry
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.supervision import Guard


@dataclass(frozen=True, slots=True)
class _Doubted:
    entry: Entry
    channels: Sequence[str]
    generation: int
    fresh_until: float
    """On `boottime`: it cannot have expired before that."""


class Doubts:
    """Delivers what one shard published to the channels of one process. Any thread may call."""

    def __init__(self, context: Context, store: Store, shard: Shard, guard: Guard) -> None:
        self._context = context
        self._store = store
        self._shard = shard
        self._guard = guard
        self._lock = threading.Lock()
        self._doubted: deque[_Doubted] = deque()
        self.subscribed_since = -math.inf
        """When the connection that delivers was opened, on `boottime`."""

    def deliver(self, entry: Entry, channels: Sequence[str], generation: int) -> None:
        """Give `entry` to `channels`, now or once it turns out not to have expired."""
        left = self._shard.clock.left(entry.stamp_ms)
        if left <= 0 or self._doubted:
            self._doubt(_Doubted(entry, channels, generation, self._fresh_until(entry)))
        else:
            self._context.inbox.deliver(channels, entry.payload, monotonic() + left, generation)

    def _fresh_until(self, entry: Entry) -> float:
        """Until when `entry`, which just arrived, cannot have expired, whatever its stamp says.

        Its sender may briefly use a clock that was set before this process could notice it. But a message over a
        connection was sent after the connection was opened.
        """
        policy, age = self._context.policy, boottime() - self.subscribed_since
        if entry.epoch or age >= min(STAMPS_FOR, policy.expiry):
            return -math.inf  # stamped by the server's clock, or by a later measurement of it
        return self.subscribed_since + policy.expiry

    def _doubt(self, doubted: _Doubted) -> None:
        with self._lock:
            self._doubted.append(doubted)
            if len(self._doubted) > 1:
                return
        answer = io_thread.current().submit(lambda: self._store.measure(self._shard))
        answer.add_done_callback(self._settle_all)

    def _settle_all(self, answer: concurrent.futures.Future[None]) -> None:
        if not answer.cancelled():
            answer.exception()  # without an answer, the known time stands
        with self._lock:
            while self._doubted:
                with self._guard:
                    self._settle(self._doubted[0])
                self._doubted.popleft()  # only now, or the next message would overtake it

    def _settle(self, doubted: _Doubted) -> None:
        context, entry = self._context, doubted.entry
        left = self._shard.clock.left(entry.stamp_ms)
        if left <= 0:
            left = doubted.fresh_until - boottime()
        if left <= 0:
            context.statistics.count("expired", len(doubted.channels))
        else:
            context.inbox.deliver(doubted.channels, entry.payload, monotonic() + left, doubted.generation)
