# SPDX-License-Identifier: BSD-3-Clause
"""Reading one entry of `hosts` as parameters of libpq: a URI, a dict of them, or a dict as in Django's DATABASES.

libpq reads URIs itself, but its errors quote what it cannot read, which may be a password. So no error here shows its
text, nor any part of a URI that could be one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

from hybrid_layer.discretion import described
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import did_you_mean
from hybrid_layer.remote.kinds import POSTGRES_SCHEMES, refuse_strange_keys, split_uri

_DJANGO = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
_WITHOUT_EFFECT = frozenset(
    {
        *("ENGINE", "ATOMIC_REQUESTS", "AUTOCOMMIT", "CONN_HEALTH_CHECKS", "CONN_MAX_AGE"),
        *("DISABLE_SERVER_SIDE_CURSORS", "TEST", "TIME_ZONE"),
    }
)
"""Keys of DATABASES that say nothing about how to connect."""
_OF_DJANGO_ALONE = frozenset(
    {"context", "cursor_factory", "isolation_level", "pool", "prepare_threshold", "server_side_binding"}
)
"""Keys of Django's OPTIONS that are no parameters of libpq."""
_OTHER_ENGINES = ("mysql", "oracle", "spatialite", "sqlite3")
_NO_HOST = re.compile(r"[\s@?#\\]|(?<=.)://")
"""Characters that no host name, address or folder of a socket has, but a URI."""
_NO_NAME = re.compile(r"=|://|\s|@")
"""Characters that an identifier in an error text must not have: libpq would read a whole address behind a name."""
_PORTS = re.compile(r"\d{0,5}(,\d{0,5})*")
_KEYWORD = re.compile(r"[A-Za-z_]{1,30}")


@cache
def keywords() -> frozenset[str]:
    """The parameters of connections that libpq knows."""
    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


def read_entry(entry: object, where: str) -> dict[str, str]:
    """The parameters of libpq that `entry`, which is at `where` in the settings, names. Raises `ConfigurationError`."""
    if isinstance(entry, str):
        return checked(_of_uri(entry, where), where)
    if not isinstance(entry, Mapping):
        raise ConfigurationError(
            f"{where} must be a URI such as 'postgresql://user@localhost/name' or a dict, not {described(entry)}."
        )
    refuse_strange_keys(entry, where)
    given = dict(entry)
    if given.keys() & {*_DJANGO, "ENGINE", "OPTIONS"}:
        return checked(_of_django(given, where), where)
    address = given.pop("address", None)
    if address is not None and given.keys() & {"host", "hostaddr", "port", "service"}:
        raise ConfigurationError(f"{where} has an address and also host, port or service; give one or the other.")
    if address is not None and not isinstance(address, str):
        raise ConfigurationError(f"{where}['address'] must be a URI, not {described(address)}.")
    found = {**({} if address is None else _of_uri(address, f"{where}['address']")), **given}
    if address is None and not found.keys() & {"host", "hostaddr", "service", "dbname"}:
        raise ConfigurationError(
            f"{where} names no server; give host, dbname and user, or service, or database (a name in DATABASES)."
        )
    return checked(found, where)


def checked(given: Mapping[str, Any], where: str) -> dict[str, str]:
    """`given` as texts, without those that are None. Raises `ConfigurationError` for what libpq cannot use."""
    found = {}
    for name, value in given.items():
        if name not in keywords():
            raise ConfigurationError(f"{where} has no option {_shown_name(name)}.{did_you_mean(name, keywords())}")
        if value is None:
            continue
        if not isinstance(value, (str, int, float)):
            raise ConfigurationError(f"{where} has {name}={described(value)}; give a str or a number.")
        found[name] = str(int(value)) if isinstance(value, bool) else str(value)
    if not _PORTS.fullmatch(found.get("port", "")):
        raise ConfigurationError(
            f"{where} has no valid port. A password with '/', '@' or ':' must be percent-encoded in a URI, or given in "
            f"a dict."
        )
    if _NO_HOST.search(found.get("host", "").removeprefix("@")):
        raise ConfigurationError(
            f"{where} has a host with a blank or one of '@', '?', '#'. Give a name or an address alone; a password "
            f"with such characters must be percent-encoded in a URI, or given in a dict."
        )
    for name in ("dbname", "service"):
        if _NO_NAME.search(found.get(name, "")):
            raise ConfigurationError(
                f"{where} has a blank or one of '=', '@', '://' in {name}. Give a name alone; a URI stands in the list "
                f"by itself, or in a dict as 'address'."
            )
    if "replication" in found:
        raise ConfigurationError(f"{where} sets replication; such a connection carries no messages. Leave it out.")
    return found


def _of_uri(uri: str, where: str) -> dict[str, Any]:
    example = "a URI such as 'postgresql://user@localhost/name', or a dict"
    _, rest = split_uri(uri, where, POSTGRES_SCHEMES, example)
    if "@" in rest.partition("/")[2]:
        raise ConfigurationError(
            f"{where} has an '@' behind the first '/'. A password with '/' must be percent-encoded, as %2F, or given "
            f"in a dict; write any other '@' there as %40."
        )
    try:
        return dict(conninfo_to_dict(f"postgresql://{rest}"))
    except ProgrammingError:
        pass
    asked = [part.partition("=")[0] for part in rest.partition("?")[2].split("&")]
    unknown = next((name for name in asked if name not in {*keywords(), "ssl"}), None)
    if unknown is not None and _KEYWORD.fullmatch(unknown) and did_you_mean(unknown, keywords()):
        raise ConfigurationError(
            f"{where} has an unknown option behind the '?'.{did_you_mean(unknown, keywords())} Options are those of "
            f"libpq."
        )
    raise ConfigurationError(
        f"{where} cannot be read. What follows the '?' must be options of libpq, as name=value, and a password with "
        f"'%', '/', '@', ':' or '?' must be percent-encoded, or given in a dict."
    )


def _of_django(given: dict[str, Any], where: str) -> dict[str, Any]:
    engine, options = given.pop("ENGINE", ""), given.pop("OPTIONS", None) or {}
    if isinstance(engine, str) and engine.rpartition(".")[2] in _OTHER_ENGINES:
        raise ConfigurationError(f"{where} has ENGINE={engine!r}; the database must be PostgreSQL.")
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{where} has OPTIONS={described(options)}; give a dict.")
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key in _DJANGO:
            found[_DJANGO[key]] = None if value == "" else value
        elif key not in _WITHOUT_EFFECT:
            known = {*_DJANGO, *_WITHOUT_EFFECT, "OPTIONS"}
            raise ConfigurationError(f"{where} has no option {_shown_name(key)}.{did_you_mean(key, known)}")
    found.update((key, value) for key, value in options.items() if key not in {*_OF_DJANGO_ALONE, "assume_role"})
    role = options.get("assume_role")
    if found.get("dbname") is None and "service" not in found:
        raise ConfigurationError(f"{where} has no NAME; give that of a database, or a service in OPTIONS.")
    return {**found, **role_option(found, role)}


def role_option(parameters: Mapping[str, Any], role: object) -> dict[str, str]:
    """The parameter that makes a session take a role, as Django's `assume_role` does. Empty without a role."""
    if not isinstance(role, str) or not role:
        return {}
    escaped = re.sub(r"([\\\s])", r"\\\1", role)
    return {"options": f"{parameters.get('options') or ''} -c role={escaped}".strip()}


def _shown_name(name: object) -> str:
    """The name of an option; hidden if it is none, as a password in a wrong place would be."""
    return repr(name) if isinstance(name, str) and _KEYWORD.fullmatch(name) else f"<{type(name).__name__}>"
