"""The option `hosts`: what may stand there, checked when the layer is built.

Nothing here needs an event loop or opens a connection. Sentinel and cluster entries are recognised, so that they are
refused by name until there is support for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import parse_url

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import did_you_mean, shown
from hybrid_layer.remote.server import AnyConnection, Server, refuse_unused, server

DEFAULT = "redis://localhost:6379"

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
_SENTINEL_OPTIONS = frozenset({"sentinels", "master_name", "sentinel_kwargs", "service_name", "services"})


class Host(Protocol):
    """An entry of `hosts`: something that leads to a server."""

    @property
    def label(self) -> str:
        """What errors and logs call it. Contains no password."""

    @property
    def read_timeout(self) -> float | None:
        """The user's `socket_timeout`, in seconds."""

    async def connection(self) -> AnyConnection:
        """A new connection to the server, not opened yet. Raises `RedisError` or `OSError` if none can be found."""


def parse_hosts(hosts: object, connection_kwargs: object, block_time: float) -> tuple[Host, ...]:
    """The servers that the options `hosts` and `connection_kwargs` describe, or a `ConfigurationError`."""
    if connection_kwargs is None:
        connection_kwargs = {}
    if not isinstance(connection_kwargs, Mapping) or not all(isinstance(key, str) for key in connection_kwargs):
        raise ConfigurationError(
            f"connection_kwargs={shown(connection_kwargs)} is not possible; give a dict of options of redis-py."
        )
    if hosts is None:
        hosts = [DEFAULT]
    if isinstance(hosts, (str, bytes)):
        raise ConfigurationError(
            f"hosts is a single {type(hosts).__name__}; give a list, even for one host: hosts=[...]."
        )
    if isinstance(hosts, Mapping):
        raise ConfigurationError("hosts is a single dict; give a list, even for one host: hosts=[{...}].")
    if not isinstance(hosts, (list, tuple)):
        raise ConfigurationError(
            f"hosts={shown(hosts)} is not possible; give a list of URIs, (host, port) pairs or dicts."
        )
    if not hosts:
        raise ConfigurationError(
            "hosts=[] names no server. Leave hosts out for the default, or name at least one, such as "
            "'redis://localhost:6379'."
        )
    if len(hosts) == 2 and isinstance(hosts[0], str) and isinstance(hosts[1], int):
        raise ConfigurationError(
            f"hosts={shown(hosts)} is one (host, port) pair; put it into a list: hosts=[(host, port)]."
        )
    servers = tuple(
        _parse_host(host, f"hosts[{index}]", connection_kwargs, block_time) for index, host in enumerate(hosts)
    )
    refuse_unused(connection_kwargs, servers)
    return servers


def _parse_host(host: object, where: str, defaults: Mapping[str, Any], block_time: float) -> Server:
    options: dict[str, Any] = {}
    given: dict[str, Any]
    if isinstance(host, Mapping):
        options = _checked_mapping(host, where)
        address = options.pop("address", None)
        if address is None:
            given = {key: options.pop(key) for key in ("host", "port", "path") if key in options}
        elif "host" in options or "port" in options or "path" in options:
            raise ConfigurationError(f"{where} has an address and also host, port or path; give one or the other.")
        else:
            given = _parse_address(address, f"{where}['address']")
    else:
        given = _parse_address(host, where)
    return server({**given, **options}, defaults, where, block_time)


def _checked_mapping(host: Mapping[Any, Any], where: str) -> dict[str, Any]:
    options = dict(host)
    for key in options:
        if not isinstance(key, str):
            raise ConfigurationError(f"{where} has the key {shown(key)}; keys of a host are str.")
    found = sorted(_SENTINEL_OPTIONS & options.keys())
    if found:
        raise ConfigurationError(
            f"{where} describes a Sentinel service ({', '.join(found)}). This release cannot ask Sentinels; name the "
            f"server itself, as a URI or with host and port."
        )
    if not options.keys() & {"address", "host", "path"}:
        raise ConfigurationError(f"{where} names no server; give 'address' (a URI), or 'host' and 'port', or 'path'.")
    return options


def _parse_address(address: object, where: str) -> dict[str, Any]:
    if isinstance(address, str):
        return _parse_uri(address, where)
    if isinstance(address, (tuple, list)):
        if len(address) != 2:
            raise ConfigurationError(f"{where}={shown(address)} is not possible; a pair is (host, port).")
        return {"host": address[0], "port": address[1]}
    raise ConfigurationError(
        f"{where}={shown(address)} is not possible; give a URI such as 'redis://localhost:6379', a (host, port) pair "
        f"or a dict."
    )


def _parse_uri(uri: str, where: str) -> dict[str, Any]:
    # Errors never show the whole URI, because it may hold a password.
    scheme, mark, rest = uri.partition("://")
    if not mark:
        raise ConfigurationError(
            f"{where} is no URI: it lacks '://'. Give something like 'redis://localhost:6379', or a (host, port) pair."
        )
    if scheme.lower() not in _SCHEMES:
        raise ConfigurationError(
            f"{where} begins with {scheme + '://'!r}, which is not known.{did_you_mean(scheme, _SCHEMES)} Known: "
            f"{', '.join(f'{name}://' for name in _SCHEMES)}."
        )
    if "#" in rest:
        raise ConfigurationError(
            f"{where} contains a '#', which ends a URI. In a password write it as %23, or give a dict with host, port "
            f"and password."
        )
    plain = f"{_SCHEMES[scheme.lower()]}://{rest}"
    try:
        port = urlsplit(plain).port
    except ValueError:
        raise ConfigurationError(
            f"{where} has no valid port. A password with '/', '@' or ':' must be percent-encoded, or given in a dict."
        ) from None
    try:
        options = dict(parse_url(plain))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{where} cannot be read: {error}") from None
    path = unquote(urlsplit(plain).path)
    if plain.startswith("unix://"):
        if not path:
            raise ConfigurationError(f"{where} has no path; a socket is unix:///path/to/socket.")
    else:
        if path.strip("/") and "db" not in options:
            raise ConfigurationError(f"{where} names the database {path.strip('/')!r}; a database is a number.")
        options.setdefault("host", "localhost")
        options["port"] = 6379 if port is None else port
    return options
