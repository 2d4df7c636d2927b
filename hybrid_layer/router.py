"""Which half carries a channel: the machine's or the servers'.

The rule is by name alone, so every process comes to the same answer without asking anybody: a name with ``!`` belongs
to one process, which may be on any machine, and goes to the servers; a name without is read by whoever works on this
machine, and stays. `routes` overrules that for normal channels.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from enum import Enum
from re import Pattern

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import did_you_mean, shown


class Route(Enum):
    """A half of the layer."""

    LOCAL = "local"
    REMOTE = "remote"


_REMEMBERED = 4096
"""Names whose route is kept, so that patterns are matched once for each."""


class Router:
    """`routes` maps patterns of normal channels (globs, or compiled expressions) to ``"local"`` or ``"remote"``.

    The first match in the order of the dict wins. Raises `ConfigurationError` for anything else.
    """

    def __init__(self, routes: Mapping[str | Pattern[str], str] | None) -> None:
        if routes is not None and not isinstance(routes, Mapping):
            raise ConfigurationError(
                f"routes={shown(routes)} is not possible; give a dict of pattern -> 'local' or 'remote'."
            )
        self._routes = [(_compiled(pattern), _route(pattern, value)) for pattern, value in (routes or {}).items()]
        self._remembered: dict[str, Route] = {}

    def route(self, channel: str) -> Route:
        """The half that carries `channel`, a checked name."""
        if "!" in channel:
            return Route.REMOTE
        if not self._routes:
            return Route.LOCAL
        route = self._remembered.get(channel)
        if route is None:
            route = next((route for pattern, route in self._routes if pattern.match(channel)), Route.LOCAL)
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[channel] = route
        return route


def _compiled(pattern: object) -> Pattern[str]:
    source = pattern.pattern if isinstance(pattern, Pattern) else pattern
    if not isinstance(source, str):
        raise ConfigurationError(
            f"routes has the pattern {shown(pattern)}; give a glob such as 'video.*' or a compiled expression of str."
        )
    if not source:
        raise ConfigurationError(
            "routes has an empty pattern, which no channel matches; give a glob such as 'video.*'."
        )
    if "!" in source:
        raise ConfigurationError(
            f"routes has the pattern {shown(pattern)}: process-specific channels (with '!') always go to the servers. "
            f"routes is for normal channels."
        )
    return re.compile(fnmatch.translate(source)) if isinstance(pattern, str) else re.compile(source, pattern.flags)  # type: ignore[attr-defined]


def _route(pattern: object, value: object) -> Route:
    if not isinstance(value, str) or value not in ("local", "remote"):
        hint = did_you_mean(value, ["local", "remote"])
        raise ConfigurationError(f"routes[{shown(pattern)}] is {shown(value)}; give 'local' or 'remote'.{hint}")
    return Route(value)
