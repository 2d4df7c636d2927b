# SPDX-License-Identifier: BSD-3-Clause
"""Counts what happens to messages, by reason, and logs drops without flooding the log.

No message is dropped silently: each drop is counted here. Where an operator can do something about it, a warning names
the remedy.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import get_ident
from typing import Protocol, TypedDict

from hybrid_layer.clock import monotonic
from hybrid_layer.policy import Policy

KEYS = ("sent", "received", "full", "expired", "dead", "slow", "memory", "damaged", "undecodable", "errors")


class GlobalStatistics(TypedDict):
    """What was counted of all channels together."""

    messages_count: int
    """Messages sent."""
    channel_full_count: int
    """Messages that met a full channel."""


class ChannelStatistics(TypedDict):
    """What is known of one channel. The two counts are None where nothing is counted by the channel's name."""

    messages_count: int | None
    """Messages sent to it."""
    messages_pending: int
    """Unread messages."""
    messages_max_age: float
    """For how many seconds the oldest of them has been there; 0 without any."""
    channel_full_count: int | None
    """Messages that met it full."""


WARN_INTERVAL_S = 60
MAX_WARN_KEYS = 200

logger = logging.getLogger("hybrid_layer")


class ThrottledLog:
    """Logs at most one warning a minute for each key. The number of keys is bounded. Any thread may use it."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._by_key: dict[Hashable, _Warned] = {}

    def warn(self, key: Hashable, text: str, error: BaseException | None = None) -> None:
        """Log `text` and the traceback of `error`, unless `key` had a warning within the last minute."""
        now = self._clock()
        warned = self._by_key.get(key)
        if warned is None and len(self._by_key) >= MAX_WARN_KEYS:
            # list() copies in one step. Other threads may warn meanwhile.
            for old, last in list(self._by_key.items()):
                if now - last.at >= WARN_INTERVAL_S:
                    self._by_key.pop(old, None)
            if len(self._by_key) >= MAX_WARN_KEYS:
                # Too many keys at once: the rest share one line a minute.
                key = _TOO_MANY_KEYS
                warned = self._by_key.get(key)
        if warned is not None and now - warned.at < WARN_INTERVAL_S:
            warned.held_back += 1
            return
        if warned is not None and warned.held_back:
            text += f" ({warned.held_back} more such warnings were held back since the last one.)"
        self._by_key[key] = _Warned(now)
        logger.warning(text, exc_info=error)


@dataclass(slots=True)
class _Warned:
    """When a warning was logged last, and how many like it were held back since."""

    at: float
    held_back: int = 0


_TOO_MANY_KEYS = object()


class Counters(Protocol):
    """Where drops are counted: in this process, or in the shared segment."""

    def count(self, key: str, n: int = 1) -> None:
        """Add ``n`` to the counter ``key``, one of KEYS."""


def tell_slow(counters: Counters, policy: Policy, name: str) -> None:
    """Count and log that the inbox of the channel `name` dropped its oldest message."""
    counters.count("slow")
    warn(
        ("slow", name),
        f"The consumer of {name} reads more slowly than messages arrive: its oldest unread message was dropped. "
        f"Its capacity is {policy.capacity_for(name)}; raise it with channel_capacity, or send less.",
    )


class Statistics:
    """Counters of one layer object in one process. Any thread may call any method."""

    def __init__(self) -> None:
        # Counts by thread, each written by its own thread only. A lock would stay locked for ever after a fork while
        # another thread holds it, or when a finalizer counts while we hold it. Thread ids are used again, so there are
        # no more entries than threads that lived at one time.
        self._by_thread: dict[int, dict[str, int]] = {}

    def count(self, key: str, n: int = 1) -> None:
        """Add ``n`` to the counter ``key``, one of KEYS."""
        try:
            counts = self._by_thread[get_ident()]
        except KeyError:
            counts = self._by_thread[get_ident()] = dict.fromkeys(KEYS, 0)
        counts[key] += n

    def as_dict(self) -> dict[str, int]:
        """All counters, including those at 0."""
        # list() copies in one step. Another thread's first count may add an entry at any time.
        threads = list(self._by_thread.values())
        return {key: sum(counts[key] for counts in threads) for key in KEYS}


_process_log = ThrottledLog()


def warn(key: Hashable, text: str, error: BaseException | None = None) -> None:
    """See `ThrottledLog.warn`: once a minute for the whole process."""
    _process_log.warn(key, text, error)


def warn_of_full_members(group: str, dropped: int) -> None:
    """Log that a group's message was dropped for `dropped` inboxes or channels, which are at capacity."""
    warn(
        ("full", group),
        f"A message to group {group} was dropped for {dropped} inboxes or channels that are at capacity: their "
        f"processes read more slowly than messages are sent. Raise capacity or channel_capacity, or send less.",
    )
