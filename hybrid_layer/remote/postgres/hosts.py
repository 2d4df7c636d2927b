# SPDX-License-Identifier: BSD-3-Clause
"""The hosts of a layer over PostgreSQL: databases, each with what leads to it. Nothing here opens a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hybrid_layer.configuration import ServerOptions
from hybrid_layer.discretion import described, described_names
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import did_you_mean
from hybrid_layer.remote.kinds import refuse_others, refuse_strange_keys
from hybrid_layer.remote.postgres.addresses import checked, keywords, read_entry, role_option

DEFAULT = {"database": "default"}
"""Without `hosts`: the site's own database."""
_DEFAULTS = {
    # A standby would refuse every message. Of several hosts, the one that is the primary now.
    "target_session_attrs": "read-write",
    "fallback_application_name": "hybrid_layer",
    # A connection whose other end is gone without a word is found within half a minute.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
_ALWAYS = {"client_encoding": "UTF8"}


@dataclass(frozen=True, slots=True)
class Host:
    """One database, which may be one of several servers that replace one another."""

    label: str
    """Its name in errors and logs. Contains no password."""
    _look_up: Callable[[], Mapping[str, str]] = field(repr=False)

    def parameters(self) -> dict[str, str]:
        """The parameters of libpq for a new connection, looked up anew: a password may have changed.

        An alias of DATABASES is asked for them each time, which may take as long as its backend likes. Raises
        `ConfigurationError` if that alias cannot be used, and what else its backend raises.
        """
        return {**_DEFAULTS, **self._look_up(), **_ALWAYS}


def parse_hosts(options: ServerOptions) -> tuple[Host, ...]:
    """The hosts that these options describe. Raises `ConfigurationError`."""
    hosts = [DEFAULT] if options.hosts is None else options.hosts
    if isinstance(hosts, (str, bytes, Mapping)):
        kind = "dict" if isinstance(hosts, Mapping) else type(hosts).__name__
        raise ConfigurationError(f"hosts is a single {kind}; give a list, even for one host: hosts=[...].")
    if not isinstance(hosts, (list, tuple)):
        raise ConfigurationError(f"hosts must be a list of URIs or dicts, not {described(hosts)}.")
    if not hosts:
        raise ConfigurationError(
            "hosts=[] names no server. Leave hosts out for the database 'default' of the site, or name one, such as "
            "'postgresql://user@localhost/name'."
        )
    refuse_others(hosts, "postgresql", "Use RedisChannelLayer for Redis, or give this layer PostgreSQL hosts alone.")
    for name in ("services", "sentinel_refresh_interval"):
        if getattr(options, name):
            raise ConfigurationError(f"{name} is for the Sentinels of Redis; hosts names PostgreSQL. Leave it out.")
    shared = {} if options.connection_kwargs is None else options.connection_kwargs
    if not isinstance(shared, Mapping):
        raise ConfigurationError(f"connection_kwargs must be a dict of options of libpq, not {described(shared)}.")
    refuse_strange_keys(shared, "connection_kwargs")
    defaults = checked(shared, "connection_kwargs")
    return tuple(parse_host(entry, f"hosts[{index}]", defaults) for index, entry in enumerate(hosts))


def plain_servers(options: ServerOptions) -> list[str]:
    """The hosts that these options reach over a network, and perhaps without TLS. Raises `ConfigurationError`."""
    return [host.label for host in parse_hosts(options) if _is_plain(host.parameters())]


def _is_plain(parameters: Mapping[str, str]) -> bool:
    if "service" in parameters or parameters.get("sslmode") in ("require", "verify-ca", "verify-full"):
        return False  # libpq reads the parameters of a service itself
    places = (parameters.get("hostaddr") or parameters.get("host", "")).split(",")
    return not all(place in ("", "localhost", "127.0.0.1", "::1") or place.startswith(("/", "@")) for place in places)


def parse_host(entry: object, where: str = "the host", defaults: Mapping[str, str] | None = None) -> Host:
    """The host that `entry`, which is at `where` in the settings, describes. Raises `ConfigurationError`.

    `defaults` are parameters of libpq that the entry's own replace.
    """
    if isinstance(entry, Mapping) and "database" in entry:
        return _of_alias(entry, where, defaults or {})
    found = {**(defaults or {}), **read_entry(entry, where)}
    return Host(_label(found), lambda: found)


def _of_alias(entry: Mapping[str, Any], where: str, defaults: Mapping[str, str]) -> Host:
    others = sorted((name for name in entry if name != "database"), key=repr)
    alias = entry["database"]
    if others:
        raise ConfigurationError(
            f"{where} has database and {described_names(others[0])}. 'database' is a name in DATABASES, whose options "
            f"are used; the name of a database on a server is 'dbname'."
        )
    if not isinstance(alias, str) or not alias:
        raise ConfigurationError(f"{where} has database={described(alias)}; give a name in DATABASES.")
    _connection(alias, where)

    def look_up() -> Mapping[str, str]:
        connection = _connection(alias, where)
        found = {name: value for name, value in connection.get_connection_params().items() if name in keywords()}
        role = role_option(found, connection.settings_dict["OPTIONS"].get("assume_role"))
        return {**defaults, **checked({**found, **role}, f"DATABASES[{alias!r}]")}

    return Host(f"DATABASES[{alias!r}]", look_up)


def _connection(alias: str, where: str) -> Any:
    """Django's object for the database `alias`, of this thread; it need not be connected."""
    from django.core.exceptions import ImproperlyConfigured
    from django.db import connections
    from django.db.utils import ConnectionDoesNotExist

    try:
        connection = connections[alias]
    except ConnectionDoesNotExist:
        known = sorted(connections)
        raise ConfigurationError(
            f"{where} names a database that is not in DATABASES.{did_you_mean(alias, known)} Known: "
            f"{', '.join(map(repr, known))}. The name of a database on a server is 'dbname'."
        ) from None
    except ImproperlyConfigured as error:
        raise ConfigurationError(f"{where} names a database of Django's, which cannot be used: {error}") from None
    if connection.vendor != "postgresql":
        raise ConfigurationError(
            f"{where}: DATABASES[{alias!r}] is {connection.display_name}, not PostgreSQL. Name another one, or give "
            f"the address of a PostgreSQL server."
        )
    return connection


def _label(parameters: Mapping[str, str]) -> str:
    if "service" in parameters:
        return f"service {parameters['service']}"
    hosts = (parameters.get("host") or parameters.get("hostaddr") or "localhost").split(",")
    ports = (parameters.get("port") or "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if len(ports) != len(hosts):
        ports = ["5432"] * len(hosts)
    names = [f"[{host}]" if ":" in host else host for host in hosts]
    places = ",".join(f"{name}:{port or '5432'}" for name, port in zip(names, ports, strict=True))
    return f"{places}/{parameters.get('dbname', '')}".rstrip("/")
