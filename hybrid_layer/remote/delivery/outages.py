# SPDX-License-Identifier: BSD-3-Clause
"""Reports to consumers that their process cannot receive from a server, and that it can again: each once per outage.

The options `on_disconnect` and `on_reconnect` give the message. It is for every process-specific channel on which a
coroutine waits, or did within `expiry`. A busy consumer will wait again; after `expiry`, the message would have
expired.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.shards import Shard

_SWEEP_AT = 1000
"""Number of recorded channels at which past ones are first removed."""


class Consumers(Protocol):
    """Whom to tell."""

    def report(self, channels: Sequence[str], payload: bytes, life: float) -> None:
        """Give a message to `channels`, which expires in `life` seconds."""

    def is_waited_on(self, channel: str) -> bool:
        """Whether a coroutine waits on `channel`."""


class Outages:
    """The outages of a process: one begins when a shard cannot be read, and ends when all can."""

    def __init__(self, context: Context, consumers: Consumers) -> None:
        self._context = context
        self._consumers = consumers
        self._has_reports = context.options.on_disconnect is not None or context.options.on_reconnect is not None
        self._lock = threading.Lock()
        self._lost: set[int] = set()
        """The shards from which the process cannot receive."""
        self._seen: dict[str, float] = {}
        """When a coroutine last began to wait on each channel, on `hybrid_layer.clock`; oldest first."""
        self._sweep_at = _SWEEP_AT

    def seen(self, channel: str) -> None:
        """Note that a coroutine begins to wait on `channel`."""
        if self._has_reports:
            with self._lock:
                self._seen.pop(channel, None)
                self._seen[channel] = monotonic()
                if len(self._seen) >= self._sweep_at:
                    self._forget_gone()
                    self._sweep_at = max(_SWEEP_AT, 2 * len(self._seen))

    def has_lost(self, shard: Shard) -> bool:
        """Whether the process cannot receive from `shard`."""
        return shard.number in self._lost

    def lost(self, shard: Shard) -> None:
        """Note that messages cannot be read from `shard` from now on. Reports the outage, if it is a new one."""
        with self._lock:
            is_news = not self._lost
            self._lost.add(shard.number)
        if is_news:
            self._report(self._context.options.on_disconnect)

    def back(self, shard: Shard) -> None:
        """Note that messages can be read from `shard`. Reports the end of the outage, if it was the last such shard."""
        if shard.number not in self._lost:
            return
        with self._lock:
            was_lost = shard.number in self._lost
            self._lost.discard(shard.number)
            is_news = was_lost and not self._lost
        if is_news:
            self._report(self._context.options.on_reconnect)

    def _report(self, payload: bytes | None) -> None:
        context = self._context
        if payload is None:
            return
        with self._lock:
            self._forget_gone()
            channels = list(self._seen)
        self._consumers.report(channels, payload, context.policy.expiry)

    def _forget_gone(self) -> None:
        before = monotonic() - self._context.policy.expiry
        for channel, since in list(self._seen.items()):
            if since <= before and not self._consumers.is_waited_on(channel):
                del self._seen[channel]
