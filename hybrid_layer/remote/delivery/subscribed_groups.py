# SPDX-License-Identifier: BSD-3-Clause
"""The groups of a process's own channels, and when each membership ends.

With pub/sub, only the process knows that. The server only knows that it is subscribed to a group. Any thread may call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from hybrid_layer.clock import monotonic


class _Group:
    """Kept while it has a member or one is about to join."""

    __slots__ = ("channels", "first_end", "joining", "members")

    def __init__(self) -> None:
        self.members: dict[str, float] = {}
        """Each channel with the end of its membership, on `hybrid_layer.clock`."""
        self.joining = 0
        self.channels: tuple[str, ...] | None = ()
        """The names in `members`; None after a change."""
        self.first_end = float("inf")
        """No membership ends before that."""


class SubscribedGroups:
    """The memberships of one process. When the number that `epoch` returns changes, a flush has ended all of them."""

    def __init__(self, epoch: Callable[[], int]) -> None:
        self._epoch = epoch
        self._generation = epoch()
        self._lock = threading.Lock()
        self._groups: dict[str, _Group] = {}

    def join_begins(self, group: str) -> None:
        """Keep the group, since a channel is about to join."""
        with self._lock:
            self._current(group).joining += 1

    def join_ended(self, group: str) -> None:
        """End `join_begins`: the channel has joined or failed to."""
        with self._lock:
            found = self._groups.get(group)
            if found is not None:
                found.joining -= 1
                self._forget_if_empty(group, found)

    def add(self, group: str, channel: str, deadline: float) -> None:
        """Make `channel` a member until `deadline`."""
        with self._lock:
            found = self._current(group)
            found.members[channel] = deadline
            found.channels = None
            found.first_end = min(found.first_end, deadline)

    def renew(self, group: str, channel: str, deadline: float) -> bool:
        """Move the end of a membership to `deadline`. False if there is none."""
        with self._lock:
            self._end_if_flushed()
            found = self._groups.get(group)
            if found is None or found.members.get(channel, 0.0) <= monotonic():
                return False
            found.members[channel] = deadline
            found.first_end = min(found.first_end, deadline)
            return True

    def remove(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""
        with self._lock:
            found = self._groups.get(group)
            if found is not None and found.members.pop(channel, None) is not None:
                found.channels = None
                self._forget_if_empty(group, found)

    def members(self, group: str) -> tuple[str, ...]:
        """The channels that are members now."""
        with self._lock:
            self._end_if_flushed()
            found = self._groups.get(group)
            if found is None:
                return ()
            if monotonic() >= found.first_end:
                self._end_old(group, found)
            if found.channels is None:
                found.channels = tuple(found.members)
            return found.channels

    def is_member(self, group: str, channel: str) -> bool:
        """Whether `channel` is a member now."""
        with self._lock:
            self._end_if_flushed()
            found = self._groups.get(group)
            return found is not None and found.members.get(channel, 0.0) > monotonic()

    def all(self) -> list[str]:
        """The groups to be subscribed to. Removes those whose memberships have all ended."""
        now = monotonic()
        with self._lock:
            self._end_if_flushed()
            for group, found in list(self._groups.items()):
                if now >= found.first_end:
                    self._end_old(group, found)
            return list(self._groups)

    def __contains__(self, group: str) -> bool:
        return group in self._groups

    def _current(self, group: str) -> _Group:
        self._end_if_flushed()
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = _Group()
        return found

    def _end_old(self, group: str, found: _Group) -> None:
        now = monotonic()
        found.members = {channel: deadline for channel, deadline in found.members.items() if deadline > now}
        found.first_end = min(found.members.values(), default=float("inf"))
        found.channels = None
        self._forget_if_empty(group, found)

    def _end_if_flushed(self) -> None:
        generation = self._epoch()
        if generation != self._generation:
            self._generation = generation
            for group, found in list(self._groups.items()):
                found.members, found.channels, found.first_end = {}, None, float("inf")
                self._forget_if_empty(group, found)

    def _forget_if_empty(self, group: str, found: _Group) -> None:
        if not found.members and not found.joining:
            self._groups.pop(group, None)
