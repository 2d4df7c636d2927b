# SPDX-License-Identifier: BSD-3-Clause
"""What this process has counted, for tools to see: told to the servers, or in the machine's memory.

A layer without a machine tells its counters to a server, which adds them to those of all processes of the prefix. What
is counted by channel is kept where the channel is. News go with the heartbeats, so a process that is killed takes those
of the last few seconds with it. Each report has a number, so that one that is repeated counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock, get_ident

from hybrid_layer.remote.delivery.replies import Report
from hybrid_layer.statistics import Statistics
from hybrid_layer.transport import Machine

MOST_CHANNELS = 256
"""Normal channels that a process counts by name; all others are counted together, under ``""``."""


class MachineStatistics(Statistics):
    """Counts in the machine's memory. What is counted before this process is attached there follows later."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self._moving = Lock()
        self._has_own = False

    def count(self, key: str, n: int = 1) -> None:
        """Add ``n`` to the counter ``key``, one of KEYS."""
        if not self._machine.count_remote(key, n):
            super().count(key, n)
            self._has_own = True
        elif self._has_own:
            self.move()

    async def of_machine(self) -> dict[str, int]:
        """All counters of the machine's processes. Attaches this one, if necessary."""
        await self._machine.remote_counters()
        self.move()
        return await self._machine.remote_counters()

    def move(self) -> None:
        """Move what is still in this process into the machine's memory, if the process is attached."""
        if not self._moving.acquire(blocking=False):
            return  # another thread does, or this one, and a finalizer counts meanwhile
        try:
            self._has_own = False
            for key, n in self.as_dict().items():
                if n and self._machine.count_remote(key, n):
                    super().count(key, -n)
                elif n:
                    self._has_own = True
        finally:
            self._moving.release()


class ChannelCounts:
    """What was sent to normal channels on servers, by channel. Any thread may call any method."""

    def __init__(self) -> None:
        # By thread, each written by its own thread only, as in `Statistics`.
        self._by_thread: dict[int, dict[str, dict[str, int]]] = {}

    def count(self, key: str, channel: str, n: int = 1) -> None:
        """Count messages to `channel`: ``sent``, or ``full``."""
        try:
            counts = self._by_thread[get_ident()]
        except KeyError:
            counts = self._by_thread[get_ident()] = {}
        of_channel = counts.get(channel)
        if of_channel is None:
            name = channel if len(counts) < MOST_CHANNELS else ""
            of_channel = counts.setdefault(name, {"sent": 0, "full": 0})
        of_channel[key] += n

    def fields(self, is_on: Callable[[str], bool]) -> dict[str, int]:
        """All counts of channels that `is_on` says yes to, by ``<key>|<channel>``."""
        found: dict[str, int] = {}
        for counts in list(self._by_thread.values()):
            for channel, of_channel in list(counts.items()):
                if is_on(channel):
                    for key, n in of_channel.items():
                        field = f"{key}|{channel}"
                        found[field] = found.get(field, 0) + n
        return found


class Ledger:
    """What one shard has been told, and what it is to be told next."""

    def __init__(self, reporter: str, read: Callable[[], Mapping[str, int]]) -> None:
        self._reporter = reporter
        self._read = read
        self._lock = Lock()
        self._told: dict[str, int] = {}
        self._number = 0
        self._pending: Report | None = None
        self._sums: Mapping[str, int] = {}
        """What all processes had reported when the shard was asked last."""
        self._told_by_then: Counter[str] = Counter()
        """What they have of this process. A report that was under way counts as told, or it would count twice."""

    @property
    def is_under_way(self) -> bool:
        """Whether the next report is one that may have arrived."""
        return self._pending is not None

    def report(self) -> Report | None:
        """The report under way, which may have arrived and is repeated; or one of the news; None without any."""
        with self._lock:
            if self._pending is None:
                news = {field: n - self._told.get(field, 0) for field, n in self._read().items()}
                news = {field: n for field, n in news.items() if n}
                if not news:
                    return None
                self._number += 1
                self._pending = Report(self._reporter, self._number, news)
            return self._pending

    def told(self, report: Report | None) -> None:
        """Note that the shard has `report`."""
        with self._lock:
            if report is None or self._pending is not report:
                return
            self._pending = None
            for field, n in report.counts.items():
                self._told[field] = self._told.get(field, 0) + n

    def note(self, sums: Mapping[str, int]) -> None:
        """Note what the shard has answered, after `told`."""
        with self._lock:
            self._sums, self._told_by_then = sums, Counter(self._told)
            if self._pending is not None:
                self._told_by_then.update(self._pending.counts)

    def estimate(self) -> dict[str, int]:
        """What all have reported as far as known, and what this process has counted since."""
        with self._lock:
            counted = self._read()
            return {
                field: self._sums.get(field, 0) + counted.get(field, 0) - self._told_by_then[field]
                for field in {*self._sums, *counted}
            }
