"""Reading the address of one server: a URI, a pair of host and port, or a dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import parse_url

from hybrid_layer.discretion import described
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import did_you_mean

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}


def refuse_strange_keys(entry: Mapping[Any, Any], where: str) -> None:
    """Raise `ConfigurationError` for a key of a host that is no str."""
    for key in entry:
        if not isinstance(key, str):
            raise ConfigurationError(f"{where} has the key {described(key)}; keys of a host are str.")


def server_options(entry: object, where: str) -> dict[str, Any]:
    """Address and options of the one server that `entry` describes."""
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
                f"{where} must be a pair (host, port), not {described(address)}. More, such as a password, goes into a "
                f"dict: {{'host': ..., 'port': ..., 'password': ...}}."
            )
        return {"host": address[0], "port": address[1]}
    raise ConfigurationError(
        f"{where} must be a URI such as 'redis://localhost:6379', a (host, port) pair or a dict, not "
        f"{described(address)}."
    )


def _parse_uri(uri: str, where: str) -> dict[str, Any]:
    # Errors show no part of the URI, because it may hold a password, and at any place if something is wrong with it.
    if uri != uri.strip():
        raise ConfigurationError(f"{where} has a blank in front or at the end. Remove it.")
    scheme, mark, rest = uri.partition("://")
    if not mark:
        raise ConfigurationError(
            f"{where} is no URI: it lacks '://'. Give something like 'redis://localhost:6379', or a (host, port) pair."
        )
    if scheme.lower() not in _SCHEMES:
        raise ConfigurationError(
            f"{where} begins with a scheme that is not known.{did_you_mean(scheme, _SCHEMES)} Known: "
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
    _refuse_loose_password(scheme.lower(), rest, where)
    try:
        options = dict(parse_url(plain))
    except (ValueError, TypeError):
        raise ConfigurationError(
            f"{where} cannot be read: an option behind the '?' has a value of another type than it needs."
        ) from None
    path = unquote(urlsplit(plain).path)
    if plain.startswith("unix://"):
        if not path:
            raise ConfigurationError(f"{where} has no path; a socket is unix:///path/to/socket.")
    else:
        if path.strip("/") and "db" not in options:
            raise ConfigurationError(f"{where} names a database by a text; a database is a number.")
        options.setdefault("host", "localhost")
        options["port"] = 6379 if port is None else port
    return options


def _refuse_loose_password(scheme: str, rest: str, where: str) -> None:
    """Where a password is not percent-encoded, part of it is read as something else."""
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if scheme == "unix" and authority and not authority.endswith("@"):
        what = "has something between 'unix://' and the path of the socket, which is no password with an '@' behind it"
    elif scheme != "unix" and "@" in rest[len(authority) :]:
        what = "has an '@' behind the first '/' or '?'"
    else:
        return
    raise ConfigurationError(
        f"{where} {what}. A password with '/', '?', '#', '@' or ':' must be percent-encoded, such as %2F for '/', or "
        f"given in a dict."
    )
