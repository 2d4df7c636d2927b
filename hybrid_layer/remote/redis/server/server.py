# SPDX-License-Identifier: BSD-3-Clause
"""One server: its address and the options of connections to it, checked when the layer is built.

Nothing here needs an event loop or opens a connection.
"""

from __future__ import annotations

import inspect
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, cast

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hybrid_layer.discretion import described
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import did_you_mean, positive_number, shown
from hybrid_layer.remote.redis.server.host import AnyConnection, Host
from hybrid_layer.statistics import warn

_RETRY_OPTIONS = frozenset({"retry", "retry_on_error", "retry_on_timeout"})
_POOL_OPTIONS = frozenset({"max_connections", "health_check_interval"})
"""Options of redis-py's pools, which this layer does not use. Accepted with a warning, for existing settings."""
_OWN_OPTIONS = frozenset({"parser_class", "encoder_class", "redis_connect_func", "encoding", "encoding_errors"})
"""Options of redis-py's connections that would change what this layer reads."""
_NO_NAME = re.compile(r"[\s/@?#,\\]")
"""Characters that no host name or address has, but a URI or a list of hosts in one str."""
_FILE_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

SWITCH_AFTER = 1.0
"""Seconds until a server that does not answer is given up, if another one may have replaced it."""


@dataclass(frozen=True, slots=True)
class Server(Host):
    """An address and the options of connections to it. As a host, it stays at that address."""

    label: str
    connection_class: type[AnyConnection]
    kwargs: Mapping[str, Any] = field(repr=False)
    """Options of redis-py's connections, with passwords."""
    read_timeout: float | None
    tls: Any = field(default=None, repr=False)
    """redis-py's object for the TLS context, shared by all connections: reading the certificates takes long."""

    switch_after: float | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. A server with a path has none."""
        return self.kwargs["host"], self.kwargs["port"]

    @property
    def is_private(self) -> bool:
        """Whether what is sent there crosses no network in the clear: by TLS, or to this machine."""
        if self.connection_class is not Connection:
            return True
        try:
            return ip_address(self.kwargs["host"]).is_loopback
        except ValueError:
            return bool(self.kwargs["host"] == "localhost")

    async def connection(self) -> AnyConnection:
        return self.new_connection()

    def at(self, host: str, port: int) -> Server:
        """A server with the same options at another address."""
        kwargs = {**self.kwargs, "host": host, "port": port}
        return replace(self, label=_label(kwargs), kwargs=kwargs)

    def new_connection(self) -> AnyConnection:
        """A new connection, not opened yet, that repeats no command and has no time limit of its own."""
        # All against redis-py's defaults, which depend on its version. It repeats commands, but a send must not be
        # repeated. It speaks RESP3, whose pushes are parsed differently. It ends a long read, but readers block on
        # purpose.
        connection = self.connection_class(**self.kwargs, retry=Retry(NoBackoff(), 0), protocol=2, socket_timeout=None)
        if self.tls is not None and isinstance(connection, SSLConnection):
            connection.ssl_context = self.tls
        return connection


def server(options: Mapping[str, Any], defaults: Mapping[str, Any], where: str, block_time: float) -> Server:
    """The server that `options`, which are at `where` in the settings, and `defaults` describe.

    Defaults for another kind of connection are left out. Raises `ConfigurationError`.
    """
    options = {**defaults, **options}
    connection_class = _connection_class(options, where)
    _refuse_retries(options, where)
    _settle_database(options, where)
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
    read_timeout = _read_timeout(options, where, block_time)
    known = known_options(connection_class)
    for name in list(options):
        if name not in known and name in defaults and name in _known_to_any():
            del options[name]
        elif name not in known:
            raise ConfigurationError(f"{where} has no option {name!r}.{did_you_mean(name, known)}")
    if connection_class is not UnixDomainSocketConnection:
        options.setdefault("socket_keepalive", True)
    if connection_class is SSLConnection:
        _settle_tls(options, where)
    found = Server(_label(options), connection_class, options, read_timeout)
    try:
        connection = found.new_connection()
        if isinstance(connection, SSLConnection):
            connection.ssl_context.get()
            return replace(found, tls=connection.ssl_context)
    except Exception as error:  # noqa: BLE001  # redis-py and ssl raise anything for a bad value
        raise ConfigurationError(
            f"{where} cannot be used: {type(error).__name__}: {_safe_text(error, options)}"
        ) from None
    return found


def _read_timeout(options: dict[str, Any], where: str, block_time: float) -> float | None:
    seconds = options.pop("socket_timeout", None)
    refuse_no_number(f"{where}: socket_timeout", seconds)
    if seconds is None or positive_number(f"{where}: socket_timeout", seconds) > block_time:
        return cast(float | None, seconds)
    raise ConfigurationError(
        f"{where}: socket_timeout={seconds} must be greater than block_time={block_time}: readers block that long on "
        f"purpose, and would lose their connection each time."
    )


def refuse_no_number(name: str, value: object) -> None:
    """Raise `ConfigurationError`, without showing `value`, if that is neither a number nor None."""
    if value is not None and not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name} must be a number, not {described(value)}.")


def _safe_text(error: Exception, options: Mapping[str, Any]) -> str:
    """The text of `error` without the values of options. One may be a password in a wrong place."""
    text = str(error)
    texts = (value for value in options.values() if isinstance(value, str) and value)
    for value in sorted(texts, key=len, reverse=True):  # longest first: one may be part of another
        text = text.replace(value, "...")
    return text


def refuse_unused(defaults: Mapping[str, Any], servers: Iterable[Server]) -> None:
    """Raise `ConfigurationError` if no server's kind of connection knows an option in `defaults`."""
    classes = {server.connection_class for server in servers}
    for name in defaults:
        if name in _known_to_any() and not any(name in known_options(each) for each in classes):
            raise ConfigurationError(f"connection_kwargs has {name!r}, which is for another kind of connection.")


def _connection_class(options: dict[str, Any], where: str) -> type[AnyConnection]:
    given = options.pop("connection_class", None)
    if given not in (None, Connection, SSLConnection, UnixDomainSocketConnection):
        raise ConfigurationError(f"{where} sets connection_class; use the URI's scheme or ssl=True instead.")
    with_tls = options.pop("ssl", given is SSLConnection)
    if "path" in options:
        if not isinstance(options["path"], str) or not options["path"]:
            raise ConfigurationError(f"{where} has path={described(options['path'])}; give the file name of a socket.")
        if "://" in options["path"] or ("@" in options["path"] and not os.path.isabs(options["path"])):
            raise ConfigurationError(f"{where} has a URI as path; give it as 'address', or by itself.")
        for name in ("host", "port"):
            if name in options:
                raise ConfigurationError(f"{where} has a path and a {name}; give one or the other.")
        return UnixDomainSocketConnection
    host, port = options.get("host"), options.setdefault("port", 6379)
    if not isinstance(host, str) or not host:
        raise ConfigurationError(f"{where} has host={described(host)}; give a name or an address as str.")
    if _NO_NAME.search(host):
        raise ConfigurationError(
            f"{where} has a host with a blank or one of '/', '@', '?', '#', ','. Give a name or an address alone. Put "
            f"a URI into the list by itself, or into a dict as 'address'."
        )
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = options["port"] = int(port)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ConfigurationError(f"{where} has port={described(port)}; give a number from 1 to 65535.")
    return SSLConnection if with_tls else Connection


def _refuse_retries(options: dict[str, Any], where: str) -> None:
    for name in sorted(_RETRY_OPTIONS & options.keys()):
        if options.pop(name):
            raise ConfigurationError(
                f"{where} sets {name}. A repeated send could deliver a message twice, so nothing is repeated. Leave it "
                f"out. The option timeout limits how long a call takes."
            )


def _settle_database(options: dict[str, Any], where: str) -> None:
    number = options.get("db")
    if isinstance(number, str) and number.isascii() and number.isdigit():
        number = options["db"] = int(number)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
        raise ConfigurationError(f"{where} has db={described(number)}; it must be a number.")


def _settle_tls(options: dict[str, Any], where: str) -> None:
    needed = options.get("ssl_cert_reqs", "required")
    if isinstance(needed, ssl.VerifyMode):
        needed = options["ssl_cert_reqs"] = needed.name.removeprefix("CERT_").lower()
    # redis-py before 6 does not check host names by default, and fails if it should but verifies no certificate.
    options.setdefault("ssl_check_hostname", True)
    if needed in (None, "none"):
        options["ssl_check_hostname"] = False
    for name in _FILE_OPTIONS:
        path = options.get(name)
        if path is not None and not os.path.exists(path):
            what = shown(path) if isinstance(path, str) and "/" in path and "\n" not in path else described(path)
            raise ConfigurationError(f"{where} has {name}={what}, but there is no such file.")


def known_options(connection_class: type[AnyConnection]) -> set[str]:
    """The options of redis-py's class, except those that would change what this layer reads."""
    names: set[str] = set()
    for cls in connection_class.__mro__:
        if "__init__" in cls.__dict__:
            names.update(inspect.signature(cls.__dict__["__init__"]).parameters)
    return (
        {name for name in names if not name.startswith("_")}
        - {"self", "args", "kwargs", "connection_kwargs"}
        - _OWN_OPTIONS
    )


def _known_to_any() -> set[str]:
    return known_options(SSLConnection) | known_options(UnixDomainSocketConnection)


def _label(options: Mapping[str, Any]) -> str:
    database = f"/{options['db']}" if options.get("db") else ""
    if "path" in options:
        return f"unix://{options['path']}{database}"
    name = f"[{options['host']}]" if ":" in options["host"] else options["host"]
    return f"{name}:{options['port']}{database}"
