# SPDX-License-Identifier: BSD-3-Clause
"""Which half carries a channel: the local or the remote one.

The name alone decides, so all processes come to the same answer without asking each other. A name with ``!`` belongs to
one process, which may be on any machine: it travels over the servers. Other names stay on the machine, unless `routes`
says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from re import Pattern

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import compiled_pattern, one_of, shown


class Route(Enum):
    """A half of the layer."""

    LOCAL = "local"
    REMOTE = "remote"


_NEGATION = re.compile(r"\(\?<?!|\[!")
"""Where an exclamation mark negates: ``(?!``, ``(?<!`` and, in a glob, ``[!``."""


class Router:
    """`routes` maps patterns of normal channels (globs, or compiled regular expressions) to "local" or "remote".

    The first match in the order of the dict counts. Raises `ConfigurationError` for anything else.
    """

    def __init__(self, routes: Mapping[str | Pattern[str], str] | None) -> None:
        if routes is not None and not isinstance(routes, Mapping):
            raise ConfigurationError(f"routes must be a dict of pattern -> 'local' or 'remote', not {shown(routes)}.")
        halves = tuple(half.value for half in Route)
        self._routes = [
            (_normal_only(pattern), Route(one_of(f"routes[{shown(pattern)}]", value, halves)))
            for pattern, value in (routes or {}).items()
        ]
        self._normal_route = lru_cache(maxsize=4096)(self._first_match)

    def route(self, channel: str) -> Route:
        """The half that carries `channel`, a checked name."""
        if "!" in channel:
            return Route.REMOTE
        if not self._routes:
            return Route.LOCAL
        return self._normal_route(channel)

    def _first_match(self, channel: str) -> Route:
        return next((route for pattern, route in self._routes if pattern.match(channel)), Route.LOCAL)


def _normal_only(pattern: str | Pattern[str]) -> Pattern[str]:
    compiled = compiled_pattern("routes", pattern)
    source = pattern if isinstance(pattern, str) else pattern.pattern
    if "!" in _NEGATION.sub("", source):
        raise ConfigurationError(
            f"routes has the pattern {shown(pattern)}: process-specific channels (with '!') always go to the servers. "
            f"routes is for normal channels."
        )
    return compiled
