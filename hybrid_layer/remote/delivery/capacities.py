# SPDX-License-Identifier: BSD-3-Clause
"""The capacities that a script needs to send to a group: those of the inboxes and channels in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hybrid_layer.policy import Policy

_GROUPS_REMEMBERED = 1000


class Capacities:
    """The capacities in the groups of one layer in one process. If all channels have the same, nothing is stored."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._by_group: dict[str, dict[str, int]] = {}

    def of(self, group: str) -> tuple[int, Sequence[str | int]]:
        """The capacity of all, and (); or 0, and name, capacity, name, capacity... as far as known."""
        if self._policy.uniform:
            return self._policy.capacity, ()
        return 0, _pairs(self._by_group.get(group, {}))

    def learn(self, group: str, names: Iterable[bytes]) -> Sequence[str | int]:
        """Look up the capacities of `names`, which a script asked for. Returns all that are known now."""
        if len(self._by_group) >= _GROUPS_REMEMBERED:
            self._by_group.clear()
        # A new dict, since another shard's call may be using the old one.
        learnt = {name.decode(): self._policy.capacity_for(name.decode()) for name in names}
        self._by_group[group] = {**self._by_group.get(group, {}), **learnt}
        return _pairs(self._by_group[group])


def _pairs(capacities: dict[str, int]) -> list[str | int]:
    return [each for pair in list(capacities.items()) for each in pair]
