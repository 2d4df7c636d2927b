# SPDX-License-Identifier: BSD-3-Clause
"""Which kind of servers `hosts` names: Redis (or Valkey), or PostgreSQL. The first host decides, and all must agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hybrid_layer.exceptions import ConfigurationError

Kind = Literal["redis", "postgresql"]

POSTGRES_SCHEMES = ("postgresql", "postgres")
_NAMES = {"redis": "Redis", "postgresql": "PostgreSQL"}
_REDIS_KEYS = frozenset({"cluster", "db", "master_name", "path", "sentinels", "ssl", "username"})
_POSTGRES_KEYS = frozenset(
    {
        *("database", "dbname", "hostaddr", "options", "passfile", "service", "sslmode", "sslrootcert"),
        *("target_session_attrs", "user"),
        *("ENGINE", "HOST", "NAME", "OPTIONS", "USER"),
    }
)
"""Keys of a dict that only hosts of one kind have. `host`, `port` and `password` are of both."""


def kind_of(hosts: object) -> Kind:
    """The kind of the servers in the option `hosts`; what names no kind, such as a host and a port, is Redis.

    Raises `ConfigurationError` if they are of several kinds. Reads no further: a wrong entry is refused elsewhere.
    """
    entries = hosts if isinstance(hosts, (list, tuple)) else []
    kinds = [_kind_of_entry(entry) for entry in entries]
    kind = next(iter(kinds), None) or "redis"
    refuse_others(hosts, kind)
    return kind


def refuse_others(hosts: object, kind: Kind, remedy: str = "") -> None:
    """Raise `ConfigurationError` if a host is certainly of another kind than `kind`."""
    for index, entry in enumerate(hosts if isinstance(hosts, (list, tuple)) else []):
        found = _kind_of_entry(entry)
        if found not in (None, kind):
            raise ConfigurationError(
                f"hosts[{index}] is a {_NAMES[str(found)]} server, and this layer uses {_NAMES[kind]}. "
                + (remedy or "All hosts of a layer must be of one kind; give each kind a layer of its own.")
            )


def _kind_of_entry(entry: object) -> Kind | None:
    """The kind of one host, or None if it could be of either."""
    if isinstance(entry, Mapping):
        if "address" in entry:
            return _kind_of_entry(entry["address"])
        if entry.keys() & _POSTGRES_KEYS:
            return "postgresql"
        return "redis" if entry.keys() & _REDIS_KEYS else None
    if isinstance(entry, str) and "://" in entry:
        return "postgresql" if entry.partition("://")[0].strip().lower() in POSTGRES_SCHEMES else "redis"
    return None
