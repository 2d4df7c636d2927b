# SPDX-License-Identifier: BSD-3-Clause
"""The prefix, how long messages and memberships live, and how many unread messages a channel holds.

Both halves of a layer share one policy, so that a channel's capacity does not depend on how it travels.
"""

from collections.abc import Mapping
from functools import lru_cache

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.names import non_local
from hybrid_layer.options import check_prefix, compiled_pattern, positive_int, shown


class Policy:
    """`expiry` and `group_expiry` in seconds, `capacity` in messages, and capacities by channel pattern.

    `channel_capacity` maps a glob, which has to match the whole name, or a compiled regular expression, which has to
    match from the start, to a capacity. The first match in the order of the dict counts. A process-specific channel
    matches by its full name or by the name of its inbox. Raises `ConfigurationError` if it is no such dict.
    """

    def __init__(self, options: LayerOptions) -> None:
        self._prefix = options.prefix
        self.expiry = options.expiry
        self.group_expiry = options.group_expiry
        self.capacity = options.capacity
        channel_capacity = {} if options.channel_capacity is None else options.channel_capacity
        if not isinstance(channel_capacity, Mapping):
            raise ConfigurationError(
                "channel_capacity must be a dict of patterns and capacities, such as {'http.request': 200}, not "
                f"{shown(channel_capacity)}."
            )
        # A copy, since the patterns are compiled once, and later changes to the dict have no effect.
        self.channel_capacity = dict(channel_capacity)
        self._patterns = [
            (compiled_pattern("channel_capacity", pattern), positive_int(f"channel_capacity[{shown(pattern)}]", limit))
            for pattern, limit in channel_capacity.items()
        ]
        self.uniform = not self._patterns
        """All channels have the same capacity."""
        # Bounded, since names of process-specific channels do not come again.
        self._cached_capacity_for = lru_cache(maxsize=4096)(self._first_match)

    @property
    def prefix(self) -> str:
        """The prefix of names in the calling process: a function may return another one in a forked child.

        Raises `ConfigurationError` if the function returns an illegal prefix.
        """
        return self._prefix if isinstance(self._prefix, str) else check_prefix(self._prefix())

    def capacity_for(self, channel: str) -> int:
        """The capacity of `channel`, in messages."""
        if not self._patterns:
            return self.capacity
        return self._cached_capacity_for(channel)

    def _first_match(self, channel: str) -> int:
        inbox = non_local(channel)
        for pattern, capacity in self._patterns:
            if pattern.match(channel) or (inbox != channel and pattern.match(inbox)):
                return capacity
        return self.capacity
