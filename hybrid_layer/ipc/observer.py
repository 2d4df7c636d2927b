# SPDX-License-Identifier: BSD-3-Clause
"""A look at a segment for tools, without a trace: nothing is made, removed, stored or locked.

An observer may be stopped or killed at any moment, and holds no process up. It lists channels and groups part by part,
so a list is of no single moment, but what it says of each channel is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, TypeVar, TypeVarTuple

from hybrid_layer.exceptions import SegmentDamaged, SegmentNotFound
from hybrid_layer.ipc import _core, attachments, objects
from hybrid_layer.ipc.diagnostics import busy, command_line, contended, lock_holder
from hybrid_layer.ipc.inventory import not_found, observe
from hybrid_layer.ipc.segment import LocalSegment
from hybrid_layer.ipc.stall_detector import StallDetector
from hybrid_layer.names import non_local
from hybrid_layer.statistics import KEYS

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WAIT_BOUNDS = tuple(4**number / 1000 for number in range(11))
"""The classes of waiting times: each bound, in seconds, is above the times of its class. The last class has none."""


_ALL_KEYS = (*KEYS, "repairs", "reaped")


class Area(NamedTuple):
    """One of the two areas of a segment, in bytes."""

    used: int
    """By unread messages or memberships, and by what belongs to them."""
    reserved: int
    """Taken from /dev/shm so far."""
    limit: int
    """The option ``message_memory`` or ``group_memory``."""


class ChannelState(NamedTuple):
    """A channel that exists at the moment: it holds messages, is waited on, or is a group's member."""

    name: str
    """A normal channel, or the inbox of a process: the part of its channels' names up to ``!``."""
    pending: int
    """Unread messages that have not expired."""
    oldest_age: float
    """For how many seconds the oldest of them has been in this segment; 0 without any."""
    waiting: int
    """Event loops that wait for messages here."""
    was_read: bool
    """Whether a process has ever looked for messages here, since the channel came into being."""
    capacity: int | None
    """That of the last sender; None for inboxes, and for normal channels that are not counted by name."""


class ChannelCounts(NamedTuple):
    """What was counted of one normal channel, since the segment was made."""

    capacity: int | None
    """That of the last sender; None for all others together."""
    sent: int
    received: int
    full: int


class Membership(NamedTuple):
    """A channel's membership in a group."""

    channel: str
    left: float
    """Seconds until it expires."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process that uses the segment, or has died and is not yet cleaned up after."""

    slot: int
    pid: int | None
    """None: it is dead, or of another pid namespace."""
    is_alive: bool
    command: str
    """Its command line, "" if that is not known."""
    inboxes: tuple[str, ...]
    unread: int
    """Messages in its inboxes."""
    oldest_age: float
    """For how many seconds the oldest of them has been there; 0 without any."""
    waiting: int
    """Channels and inboxes that its event loops wait on, each counted for each loop."""
    members: int
    """Memberships of its channels in groups."""


class Message(NamedTuple):
    """An unread message."""

    channel: str
    """The full name; of a message to a group, in an inbox, the inbox."""
    size: int
    """Bytes of payload."""
    age: float
    """Seconds since it was stored here."""
    left: float
    """Seconds until it expires."""
    is_to_group: bool
    payload: bytes | None
    """As it is stored, serialized and perhaps encrypted; None if it was not asked for."""


class Waits(NamedTuple):
    """For how long messages were unread in this segment until a process took them."""

    counts: tuple[int, ...]
    """By class: `WAIT_BOUNDS`, and one more."""
    total: float
    """Seconds, of all together."""


class Observer:
    """The segment of `prefix` of this user, as it is now. Use it as a context manager, from one thread at a time.

    The constructor raises `SegmentNotFound`, and `ConfigurationError` for an object that is another user's. Methods
    also raise `SegmentNotFound` once the segment is gone, `SegmentBusy` if a stopped process holds its lock, and
    `SegmentDamaged`. After a move of the processes to another segment, methods read that one.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.name = objects.segment_name(prefix, os.geteuid())
        self._attachment: LocalSegment | None = None
        """This process's own attachment, whose descriptor is used: closing another one would drop its record locks."""
        self._file = objects.Descriptor()
        self._core = self._open()

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor, or leave that to this process's attachment, whose record locks it would drop."""
        with attachments.kept():
            if self._attachment is None and self._file.is_ours():
                attachment = attachments.attached(self.prefix)
                if attachment is None:
                    self._file.close()
                else:
                    attachment.keep(self._file)
            self._file = objects.Descriptor()

    # The segment

    @property
    def machine(self) -> str:
        """The random id of this machine, as servers know it."""
        return self._now().machine

    @property
    def project(self) -> str:
        """Whose site this is: settings module and folder, or "" if that is not known."""
        return self._now().project

    def areas(self) -> tuple[Area, Area]:
        """The memory for messages, and for groups."""
        messages, groups = self._read(lambda core: core.areas())
        return Area(*messages), Area(*groups)

    def counters(self) -> dict[str, int]:
        """The machine's counters, with the keys of `hybrid_layer.statistics.KEYS`, and ``repairs`` and ``reaped``."""
        return dict(zip(_ALL_KEYS, self._now().counters(), strict=True))

    def remote_counters(self) -> dict[str, int]:
        """What the machine's processes have counted on servers, with the keys of `hybrid_layer.statistics.KEYS`."""
        return dict(zip(KEYS, self._now().remote_counters(), strict=False))

    def waits(self) -> Waits:
        """For how long messages were unread in this segment."""
        counts, total = self._now().waits()
        return Waits(tuple(counts), total)

    # Channels

    def channels(self) -> Iterator[ChannelState]:
        """All channels and inboxes, in no order."""
        capacities = {name: counts.capacity for name, counts in self.channel_counts().items()}
        for name, _, _, pending, age, was_read, waiters in self._channels():
            yield ChannelState(name, pending, age, len(waiters), was_read, capacities.get(name))

    def channel_counts(self) -> dict[str, ChannelCounts]:
        """What was counted of normal channels: up to 256 by name, and all others together under ``""``."""
        return {
            name: ChannelCounts(capacity if name else None, *counts)
            for name, capacity, *counts in self._now().tallies()
        }

    def peek(self, channel: str, count: int = 10, *, body: bool = False) -> list[Message]:
        """The oldest messages of a normal channel or an inbox, up to `count` and 1,000, without taking them."""
        queue = non_local(channel)
        return [
            Message(queue + local, size, age, left, is_to_group, payload)
            for local, size, age, left, is_to_group, payload in self._read(lambda core: core.peek(queue, count, body))
        ]

    # Groups

    def groups(self) -> dict[str, int]:
        """Each group on this machine, and how many members it has."""
        return dict(Counter(group for group, _, _ in self._members()))

    def members(self, group: str) -> Iterator[Membership]:
        """The members of `group` on this machine."""
        return (Membership(channel, left) for each, channel, left in self._members() if each == group)

    # Processes

    def processes(self) -> list[ProcessInfo]:
        """The processes that use the segment."""
        inboxes: dict[tuple[int, int], list[tuple[str, int, float]]] = {}
        waiting: Counter[int] = Counter()
        for name, owner, generation, pending, age, _, waiters in self._channels():
            waiting.update(waiters)
            if owner >= 0:
                inboxes.setdefault((owner, generation), []).append((name, pending, age))
        members = Counter(non_local(channel) for _, channel, _ in self._members())
        found = []
        for slot, generation, pid, is_alive in self._now().processes():
            own = inboxes.get((slot, generation), [])
            found.append(
                ProcessInfo(
                    slot,
                    pid or None,
                    is_alive,
                    command_line(pid) if pid else "",
                    tuple(name for name, _, _ in own),
                    sum(pending for _, pending, _ in own),
                    max((age for _, _, age in own), default=0.0),
                    waiting[slot],
                    sum(members[name] for name, _, _ in own),
                )
            )
        return found

    # Steps

    def _channels(self) -> Iterator[tuple[str, int, int, int, float, bool, list[int]]]:
        yield from self._all(_core.Observer.channels)

    def _members(self) -> Iterator[tuple[str, str, float]]:
        yield from self._all(_core.Observer.members)

    def _all(self, part: Callable[[_core.Observer, int], tuple[int | None, list[T]]]) -> Iterator[T]:
        core = self._now()  # also if the processes move meanwhile: a place in another segment means another one
        bucket: int | None = 0
        while bucket is not None:
            bucket, found = self._of(core, part, bucket)
            yield from found

    def _read(self, call: Callable[[_core.Observer], T]) -> T:
        return self._of(self._now(), call)

    def _of(self, core: _core.Observer, call: Callable[[_core.Observer, *Ts], T], *args: *Ts) -> T:
        detector = StallDetector()
        try:
            while True:
                try:
                    return call(core, *args)
                except _core.Busy:  # not once free for long enough within 50 ms
                    if detector.is_stalled(lock_holder(core)):
                        raise busy(contended(core, self.prefix)) from None
        except _core.Damaged:
            raise SegmentDamaged(
                f"The segment of prefix {self.prefix!r} holds inconsistent data. The next process that uses it repairs "
                f"it; if none does, remove {objects.label(self.name)}."
            ) from None

    def _now(self) -> _core.Observer:
        """The segment that the prefix has now: another one after a move."""
        is_there = self._file.is_at(objects.lock_bearer(self.name))
        if not is_there or self._core.retired or attachments.attached(self.prefix) is not self._attachment:
            self.close()
            self._core = self._open()
        return self._core

    def _open(self) -> _core.Observer:
        with attachments.kept():
            self._attachment = attachment = attachments.attached(self.prefix)
            try:
                self._file, core = observe(self.name, attachment)
            except FileNotFoundError:
                raise SegmentNotFound(not_found(self.prefix)) from None
            except _core.Damaged as reason:
                raise SegmentDamaged(f"The segment of prefix {self.prefix!r} cannot be observed: {reason}.") from None
            return core
