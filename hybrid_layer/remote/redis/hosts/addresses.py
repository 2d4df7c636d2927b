# SPDX-License-Identifier: BSD-3-Clause
"""Reading the address of one server: a URI, a pair of host and port, or a dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import parse_url

from hybrid_layer.discretion import described
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.remote.kinds import refuse_strange_keys, split_uri

_SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys")


def server_options(entry: object, where: str) -> dict[str, Any]:
    """Address and options of the server that `entry` describes. Raises `ConfigurationError`."""
    if not isinstance(entry, Mapping):
        return _parse_address(entry, where)
    refuse_strange_keys(entry, where)
    options = dict(entry)
    if not options.keys() & {"address", "host", "path"}:
        raise ConfigurationError(f"{where} names no server; give 'address' (a URI), or 'host' and 'port', or 'path'.")
    address = options.pop("address", None)
    if address is None:
        return options
    if options.keys() & {"host", "port", "path"}:
        raise ConfigurationError(f"{where} has an address and also host, port or path; give one or the other.")
    return {**_parse_address(address, f"{where}['address']"), **options}


def _parse_address(address: object, where: str) -> dict[str, Any]:
    if isinstance(address, str):
        return _parse_uri(address, where)
    if isinstance(address, (tuple, list)):
        if len(address) != 2:
            raise ConfigurationError(
                f"{where} must be a pair (host, port), not {described(address)}. For more, such as a password, use a "
                f"dict: {{'host': ..., 'port': ..., 'password': ...}}."
            )
        return {"host": address[0], "port": address[1]}
    raise ConfigurationError(
        f"{where} must be a URI such as 'redis://localhost:6379', a (host, port) pair or a dict, not "
        f"{described(address)}."
    )


def _parse_uri(uri: str, where: str) -> dict[str, Any]:
    # Errors show no part of the URI: it may contain a password, in a faulty URI at any place.
    scheme, rest = split_uri(uri, where, _SCHEMES, "a URI such as 'redis://localhost:6379', or a pair (host, port)")
    if "#" in rest:
        raise ConfigurationError(
            f"{where} contains a '#', which ends a URI. In a password write it as %23, or give a dict with host, port "
            f"and password."
        )
    plain = f"{scheme.replace('valkey', 'redis')}://{rest}"
    try:
        port = urlsplit(plain).port
    except ValueError:
        raise ConfigurationError(
            f"{where} has no valid port. A password with '/', '@' or ':' must be percent-encoded, or given in a dict."
        ) from None
    _refuse_loose_password(scheme, rest, where)
    try:
        options = dict(parse_url(plain))
    except (ValueError, TypeError):
        raise ConfigurationError(
            f"{where} cannot be read: an option behind the '?' has a value of a wrong type."
        ) from None
    path = unquote(urlsplit(plain).path)
    if plain.startswith("unix://"):
        if not path:
            raise ConfigurationError(f"{where} has no path; a socket is unix:///path/to/socket.")
    else:
        if path.strip("/") and "db" not in options:
            raise ConfigurationError(f"{where} names a database by a text; it must be a number.")
        options.setdefault("host", "localhost")
        options["port"] = 6379 if port is None else port
    return options


def _refuse_loose_password(scheme: str, rest: str, where: str) -> None:
    """Raise `ConfigurationError` if a password seems not to be percent-encoded: part of it would be misread."""
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if scheme == "unix" and authority and not authority.endswith("@"):
        what = "has a text between 'unix://' and the path of the socket that is not a password with an '@' behind it"
    elif scheme != "unix" and "@" in rest[len(authority) :]:
        what = "has an '@' behind the first '/' or '?'"
    else:
        return
    raise ConfigurationError(
        f"{where} {what}. A password with '/', '?', '#', '@' or ':' must be percent-encoded, such as %2F for '/', or "
        f"given in a dict."
    )
