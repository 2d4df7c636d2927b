# SPDX-License-Identifier: BSD-3-Clause
"""State of one layer object in one process: its inboxes, their memberships, and messages fetched for consumers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import partial

from hybrid_layer.clock import monotonic
from hybrid_layer.envelope import MARK, without_excluded
from hybrid_layer.exceptions import Undecodable
from hybrid_layer.inbox import Inbox
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.segment import LocalSegment
from hybrid_layer.ipc.stall_detector import LOCK_REFUSED
from hybrid_layer.ipc.wait_set import WaitSet
from hybrid_layer.names import local, non_local
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import KEYS, warn

_NUMBERS = {key: number for number, key in enumerate(KEYS)}
_HOUSEKEEPING = 1.0
"""Seconds between two times that a sender does housekeeping."""
_MANY = 1 << 20
"""More flushes than there are between two looks at the segment's epoch."""
_FEW = 1000
"""Expired memberships are removed only if there are more than this."""


class SegmentCounters:
    """Counters in the segment: they are the machine's, and outlive the process that counts."""

    def __init__(self, segment: LocalSegment) -> None:
        self._segment = segment

    def count(self, key: str, n: int = 1) -> None:
        """Add `n` to the counter `key`, one of KEYS."""
        self._segment.core.count(_NUMBERS[key], n)

    def as_dict(self) -> dict[str, int]:
        """All counters, including those at 0."""
        return dict(zip(KEYS, self._segment.core.counters(), strict=False))

    def count_remote(self, key: str, n: int) -> None:
        """Add `n` to the counter `key` of what is done on servers."""
        self._segment.core.count(_core.COUNTERS + _NUMBERS[key], n)

    def remote_as_dict(self) -> dict[str, int]:
        """All counters of what is done on servers."""
        return dict(zip(KEYS, self._segment.core.remote_counters(), strict=False))


class ProcessState:
    """State of one layer object in one process. A forked child makes its own, and uses no lock of this one."""

    def __init__(self, policy: Policy, segment: LocalSegment) -> None:
        self.segment = segment
        self.generation = segment.generation
        self.counters = SegmentCounters(segment)
        self.inbox = Inbox(policy, self.counters, lambda: (segment.core.epoch,))
        self.inboxes: dict[str, InboxSource] = {}
        """The inboxes that are open in the segment, by name."""
        self.memberships: dict[tuple[str, str], float] = {}
        """(group, channel) -> deadline. Memberships of our own channels, to add again after a move."""
        self._epoch = 0
        """That in which all of them began. A flush, by whomever, begins another one, and ends them."""
        self._following = threading.Lock()
        self._next_purge = _FEW
        self.draining = threading.Lock()
        """Held while an inbox is drained into buffers, or two loops could swap two messages."""
        self.next_housekeeping = 0.0
        """When a sender does its next housekeeping. Receivers do theirs while they wait."""

    def housekeep(self) -> None:
        """Move if the segment was lost, and tidy up. In a process that only sends, no wait set does it."""
        self.next_housekeeping = monotonic() + _HOUSEKEEPING
        self.segment.recover_if_lost()
        self.segment.tidy_up()
        self.segment.run_deferred()
        if self.generation != self.segment.generation:
            self.restore()

    def remember(self, group: str, channel: str, deadline: float, epoch: int) -> None:
        """Keep a membership of this epoch, to add it again after a move. Expired ones are removed now and then."""
        if epoch != self._epoch:
            self.follow(epoch)
            if epoch != self._epoch:
                return  # a flush has ended it
        self.memberships[group, channel] = deadline
        if len(self.memberships) >= self._next_purge:
            now = monotonic()
            for membership, ends in list(self.memberships.items()):
                if ends <= now:
                    self.memberships.pop(membership, None)
            self._next_purge = 2 * len(self.memberships) + _FEW

    def follow(self, epoch: int) -> None:
        """Forget the memberships of epochs before this one."""
        with self._following:
            distance = epoch - self._epoch
            if 0 < distance < _MANY:
                self.memberships = {}  # first: a thread that finds the epoch begun adds to this one
                self._epoch = epoch
            elif distance and (distance > 0 or self.segment.core.epoch < self._epoch):
                self._epoch = epoch  # it was damaged, or could not be read in the segment that was left: no flush

    def take_in(self, name: str, wait_set: WaitSet) -> None:
        """Move messages of the inbox `name` into its channels' buffers, while a consumer of this loop is unserved."""
        has_restored = False
        if self.generation != self.segment.generation:
            self.restore()
        with self.draining:
            # Messages that no consumer waits for stay in the segment, where capacity is enforced.
            while self.inbox.unserved_loop(wait_set.loop) is wait_set.loop:
                core = self.segment.core
                try:
                    messages, has_more = core.drain(name, wait_set.number)
                except (_core.NoMemory, *LOCK_REFUSED):
                    wait_set.retry_soon(name, partial(self.take_in, name, wait_set))
                    return
                except _core.Stale:
                    wait_set.lose_place()  # with another place, it takes in again
                    return
                except _core.Gone:
                    # The segment has lost our inbox: it is another segment, or was damaged.
                    if has_restored or not self.restore():
                        wait_set.retry_soon(name, partial(self.take_in, name, wait_set))
                        return
                    has_restored = True
                    continue
                epoch = core.epoch
                for local_names, payload, deadline in messages:
                    channels: Sequence[str] = [name + each for each in local_names]
                    if payload.startswith(MARK):
                        channels = self._without_excluded(channels, payload)
                    self.inbox.deliver(channels, payload, deadline, epoch)
                if not has_more:
                    # Found empty and registered in one step: later messages are announced to this loop.
                    if wait_set.number >= 0:
                        wait_set.watched.add(name)
                    return

    def _without_excluded(self, channels: Sequence[str], payload: bytes) -> Sequence[str]:
        try:
            return without_excluded(channels, payload)
        except Undecodable as error:
            self.counters.count("undecodable")
            warn("envelope", f"Dropped a message that cannot be read: {error}")
            return ()

    def restore(self) -> bool:
        """Register again in a segment that has no registration of ours: a new one, or one in which we have a new slot.

        False: it failed, and has to be tried again.
        """
        generation = self.segment.generation
        core = self.segment.core
        try:
            for inbox in list(self.inboxes):
                core.open_inbox(inbox)
            self.follow(epoch := core.epoch)
            for group, channel in list(self.memberships):
                self._restore_membership(core, group, channel, epoch)
        except (_core.Detached, _core.NoMemory, *LOCK_REFUSED) as error:
            cause = str(error) or type(error).__name__
            warn(("restore", self.segment.name), f"Memberships are not restored yet: {cause}")
            return False
        self.generation = generation
        return True

    def _restore_membership(self, core: _core.Segment, group: str, channel: str, epoch: int) -> None:
        inbox, name = non_local(channel), local(channel)
        deadline = self.memberships.get((group, channel))
        while deadline is not None:
            left = deadline - monotonic()
            if left <= 0:
                self.memberships.pop((group, channel), None)
                return
            core.group_restore(group, inbox, name, int(left * 1e9), epoch)
            restored, deadline = deadline, self.memberships.get((group, channel))
            if deadline == restored:
                return
        # Another thread has ended it meanwhile, perhaps before it was added here.
        core.group_discard(group, inbox, name)


class InboxSource:
    """An inbox in the segment, as the source of its channels' messages."""

    def __init__(self, process: ProcessState, name: str) -> None:
        self._process = process
        self._name = name

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take in what is there, unless the segment announces each message to this loop."""
        name, process = self._name, self._process
        wait_set = process.segment.wait_sets.get(loop)
        if name not in wait_set.watched:
            take_in = partial(process.take_in, name, wait_set)
            wait_set.attend(name, take_in, partial(process.inbox.is_awaited, loop))
            take_in()

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing: messages that no consumer waits for stay in the segment."""
