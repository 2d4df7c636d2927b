"""The option `hosts`: what may stand there, checked when the layer is built, and how a connection to one is made.

Nothing here needs an event loop or opens a connection. Sentinel and cluster entries are recognised, so that they are
refused by name until there is support for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import did_you_mean, positive_number, shown
from hybrid_layer.statistics import warn

DEFAULT = "redis://localhost:6379"

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
_RETRY_OPTIONS = frozenset({"retry", "retry_on_error", "retry_on_timeout"})
_SENTINEL_OPTIONS = frozenset({"sentinels", "master_name", "sentinel_kwargs", "service_name", "services"})
_POOL_OPTIONS = frozenset({"max_connections", "health_check_interval"})
"""Of redis-py's pools, which this layer does not use. Accepted, with a warning, since existing settings have them."""
_OWN_OPTIONS = frozenset({"parser_class", "encoder_class", "redis_connect_func", "encoding", "encoding_errors"})
"""Options of redis-py's connections that would change what this layer reads."""

AnyConnection = Connection | UnixDomainSocketConnection


@dataclass(frozen=True, slots=True)
class Host:
    """One server, and how to connect to it."""

    label: str
    """What errors and logs call it. Contains no password."""
    connection_class: type[AnyConnection]
    kwargs: Mapping[str, Any]
    read_timeout: float | None
    """The user's `socket_timeout`."""

    def connection(self) -> AnyConnection:
        """A new connection, not opened yet, that repeats nothing and waits without an end by itself."""
        # All against redis-py's defaults, which depend on its version: it repeats commands, and a send must not be
        # repeated; it speaks RESP3, whose pushes are parsed differently; it ends a read that takes long, and readers
        # block on purpose.
        return self.connection_class(**self.kwargs, retry=Retry(NoBackoff(), 0), protocol=2, socket_timeout=None)


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
    return tuple(
        _parse_host(host, f"hosts[{index}]", dict(connection_kwargs), block_time) for index, host in enumerate(hosts)
    )


def _parse_host(host: object, where: str, defaults: dict[str, Any], block_time: float) -> Host:
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
    return _host({**defaults, **given, **options}, where, block_time)


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


def _host(options: dict[str, Any], where: str, block_time: float) -> Host:
    connection_class = _connection_class(options, where)
    _refuse_retries(options, where)
    if options.pop("protocol", 2) not in (2, "2"):
        raise ConfigurationError(f"{where} sets protocol; this layer always speaks RESP2.")
    if options.pop("decode_responses", False):
        raise ConfigurationError(
            f"{where} sets decode_responses; messages are bytes, so this layer cannot decode replies."
        )
    for name in sorted(_POOL_OPTIONS & options.keys()):
        del options[name]
        warn(
            ("pool option", name),
            f"{where} sets {name}, which does nothing: this layer has a fixed number of connections.",
        )
    read_timeout = options.pop("socket_timeout", None)
    if read_timeout is not None and positive_number(f"{where}: socket_timeout", read_timeout) <= block_time:
        raise ConfigurationError(
            f"{where}: socket_timeout={read_timeout} must be above block_time={block_time}: readers block that long on "
            f"purpose, and would lose their connection each time."
        )
    known = _known_options(connection_class)
    for name in options:
        if name not in known:
            raise ConfigurationError(f"{where} has no option {name!r}.{did_you_mean(name, known)}")
    if connection_class is not UnixDomainSocketConnection:
        options.setdefault("socket_keepalive", True)
    host = Host(_label(options), connection_class, options, read_timeout)
    try:
        host.connection()
    except Exception as error:  # noqa: BLE001  # whatever redis-py makes of an option's value
        raise ConfigurationError(f"{where} cannot be used: {type(error).__name__}: {error}") from None
    return host


def _connection_class(options: dict[str, Any], where: str) -> type[AnyConnection]:
    given = options.pop("connection_class", None)
    if given not in (None, Connection, SSLConnection, UnixDomainSocketConnection):
        raise ConfigurationError(f"{where} sets connection_class; say it with the URI's scheme or with ssl=True.")
    ssl = options.pop("ssl", given is SSLConnection)
    if "path" in options:
        if not isinstance(options["path"], str) or not options["path"]:
            raise ConfigurationError(f"{where} has path={shown(options['path'])}; give the file name of a socket.")
        for name in ("host", "port"):
            if name in options:
                raise ConfigurationError(f"{where} has a path and a {name}; give one or the other.")
        return UnixDomainSocketConnection
    host, port = options.get("host"), options.setdefault("port", 6379)
    if not isinstance(host, str) or not host:
        raise ConfigurationError(f"{where} has host={shown(host)}; give a name or an address as str.")
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = options["port"] = int(port)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ConfigurationError(f"{where} has port={shown(port)}; give a number from 1 to 65535.")
    return SSLConnection if ssl else Connection


def _refuse_retries(options: dict[str, Any], where: str) -> None:
    for name in sorted(_RETRY_OPTIONS & options.keys()):
        if options.pop(name):
            raise ConfigurationError(
                f"{where} sets {name}. A repeated send could deliver a message twice, so nothing is repeated; leave it "
                f"out. How long a call may take is the option timeout."
            )


def _known_options(connection_class: type[AnyConnection]) -> set[str]:
    names: set[str] = set()
    for cls in connection_class.__mro__:
        if "__init__" in cls.__dict__:
            names.update(inspect.signature(cls.__dict__["__init__"]).parameters)
    return (
        {name for name in names if not name.startswith("_")}
        - {"self", "args", "kwargs", "connection_kwargs"}
        - _OWN_OPTIONS
    )


def _label(options: Mapping[str, Any]) -> str:
    database = f"/{options['db']}" if options.get("db") else ""
    if "path" in options:
        return f"unix://{options['path']}{database}"
    name = f"[{options['host']}]" if ":" in options["host"] else options["host"]
    return f"{name}:{options['port']}{database}"
