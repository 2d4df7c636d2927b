# SPDX-License-Identifier: BSD-3-Clause
"""Which kind of servers `hosts` names: Redis (or Valkey), or PostgreSQL. The first host decides, and all must agree.

Also what is refused in the hosts of either kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hybrid_layer.discretion import described
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import did_you_mean

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


def refuse_strange_keys(options: Mapping[Any, Any], where: str) -> None:
    """Raise `ConfigurationError` if a key of a host, or of options for all hosts, is not a str."""
    for key in options:
        if not isinstance(key, str):
            raise ConfigurationError(f"{where} has the key {described(key)}; keys must be str.")


def split_uri(uri: str, where: str, schemes: Sequence[str], example: str) -> tuple[str, str]:
    """The scheme of a URI, in lower case, and what follows the ``://``. Raises `ConfigurationError`.

    An error shows no part of the URI: it may contain a password, in a faulty one at any place.
    """
    if uri != uri.strip():
        raise ConfigurationError(f"{where} begins or ends with a blank. Remove it.")
    scheme, mark, rest = uri.partition("://")
    if not mark:
        raise ConfigurationError(f"{where} is not a URI: it lacks '://'. Give {example}.")
    if scheme.lower() not in schemes:
        raise ConfigurationError(
            f"{where} begins with an unknown scheme.{did_you_mean(scheme, schemes)} Known: "
            f"{', '.join(f'{name}://' for name in schemes)}."
        )
    return scheme.lower(), rest


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
