"""The forms of `hosts` for PostgreSQL, the errors for others, and that no password is in any text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.configuration import ServerOptions
from hybrid_layer.discretion import discreet
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.remote.kinds import kind_of
from hybrid_layer.remote.postgres.hosts import parse_host, parse_hosts
from tests.support.postgres import PostgresServer
from tests.unit.test_discretion import SECRET, said

DJANGO = {"ENGINE": "django.db.backends.postgresql", "NAME": "site"}


def own(entry: Any) -> dict[str, str]:
    """The parameters of a host, without those that all have."""
    common = parse_host("postgresql://").parameters()
    return {name: value for name, value in parse_host(entry).parameters().items() if common.get(name) != value}


@pytest.mark.parametrize(
    ("entry", "label", "parameters"),
    [
        ("postgresql://", "localhost:5432", {}),
        ("postgres://u:p%40ss@h/db", "h:5432/db", {"user": "u", "password": "p@ss", "host": "h", "dbname": "db"}),
        ("POSTGRESQL://h:5433", "h:5433", {"host": "h", "port": "5433"}),
        ("postgresql://a,b:7000/db", "a:5432,b:7000/db", {"host": "a,b", "port": ",7000", "dbname": "db"}),
        ("postgresql://[::1]:7000/db", "[::1]:7000/db", {"host": "::1", "port": "7000", "dbname": "db"}),
        ("postgresql:///db?host=/run/x", "/run/x:5432/db", {"host": "/run/x", "dbname": "db"}),
        ("postgresql://h/db?sslmode=require", "h:5432/db", {"host": "h", "dbname": "db", "sslmode": "require"}),
        ("postgresql://h?target_session_attrs=any", "h:5432", {"host": "h", "target_session_attrs": "any"}),
        ({"host": "h", "port": 7000, "dbname": "db"}, "h:7000/db", {"host": "h", "port": "7000", "dbname": "db"}),
        ({"host": "h", "password": None, "keepalives": True}, "h:5432", {"host": "h", "keepalives": "1"}),
        ({"host": "@abstract"}, "@abstract:5432", {"host": "@abstract"}),
        ({"service": "messages"}, "service messages", {"service": "messages"}),
        (
            {"address": "postgresql://h/db", "password": "p"},
            "h:5432/db",
            {"host": "h", "dbname": "db", "password": "p"},
        ),
        (
            {**DJANGO, "USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": 7000, "CONN_MAX_AGE": 60},
            "h:7000/site",
            {"dbname": "site", "user": "u", "password": "p", "host": "h", "port": "7000"},
        ),
        (
            {**DJANGO, "HOST": "", "PORT": "", "OPTIONS": {"sslmode": "require", "pool": True}},
            "localhost:5432/site",
            {"dbname": "site", "sslmode": "require"},
        ),
        ({**DJANGO, "NAME": "", "OPTIONS": {"service": "s"}}, "service s", {"service": "s"}),
        (
            {**DJANGO, "OPTIONS": {"assume_role": "a b"}},
            "localhost:5432/site",
            {"dbname": "site", "options": r"-c role=a\ b"},
        ),
    ],
    ids=str,
)
def test_forms_of_a_host(entry: Any, label: str, parameters: dict[str, str]) -> None:
    host = parse_host(entry)
    assert host.label == label
    assert own(entry) == parameters


def test_a_session_is_asked_for_that_can_write() -> None:
    assert parse_host("postgresql://a,b").parameters()["target_session_attrs"] == "read-write"


def test_connection_kwargs_are_for_every_host_and_the_hosts_own_options_win() -> None:
    hosts = parse_hosts(
        ServerOptions(hosts=["postgresql://a", {"host": "b", "user": "c"}], connection_kwargs={"user": "u"})
    )
    assert [host.parameters()["user"] for host in hosts] == ["u", "c"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hosts": []}, "hosts=[] names no server"),
        ({"hosts": "postgresql://h"}, "give a list, even for one host"),
        ({"hosts": {"host": "h"}}, "give a list, even for one host"),
        ({"hosts": 5}, "hosts must be a list of URIs or dicts, not 5."),
        ({"hosts": [5]}, "hosts[0] must be a URI such as 'postgresql://"),
        ({"hosts": [("h", 5432)]}, "hosts[0] must be a URI such as 'postgresql://"),
        ({"hosts": ["redis://h"]}, "hosts[0] is a Redis server, and this layer uses PostgreSQL"),
        ({"hosts": ["postgresql://h", {"host": "h", "db": 1}]}, "hosts[1] is a Redis server"),
        ({"hosts": ["h:5432"]}, "hosts[0] is not a URI: it lacks '://'"),
        ({"hosts": [" postgresql://h"]}, "hosts[0] begins or ends with a blank"),
        ({"hosts": ["postgresql://h:x/db"]}, "hosts[0] has no valid port"),
        ({"hosts": ["postgresql://u:a/b@h/db"]}, "'@' behind the first '/'"),
        ({"hosts": ["postgresql://u:a@b@h/db"]}, "percent-encoded"),
        ({"hosts": ["postgresql://u:%zz@h/db"]}, "hosts[0] cannot be read"),
        ({"hosts": ["postgresql://h/db?ssl_mode=require"]}, "Did you mean 'sslmode'?"),
        ({"hosts": ["postgresql://h/db?sslmode"]}, "hosts[0] cannot be read"),
        ({"hosts": [{}]}, "hosts[0] names no server"),
        ({"hosts": [{"password": "x"}]}, "hosts[0] names no server"),
        ({"hosts": [{"host": "h", "usr": "x"}]}, "hosts[0] has no option 'usr'. Did you mean 'user'?"),
        ({"hosts": [{"host": "h", 5: "x"}]}, "hosts[0] has the key 5; keys must be str."),
        ({"hosts": [{"host": ["a", "b"]}]}, "hosts[0] has host=["),
        ({"hosts": [{"host": "u@h"}]}, "hosts[0] has a host with a blank"),
        ({"hosts": [{"host": "h", "port": "five"}]}, "hosts[0] has no valid port"),
        ({"hosts": [{"host": "h", "dbname": "postgresql://h/db"}]}, "in dbname. Give a name alone"),
        ({"hosts": [{"dbname": "host=h"}]}, "in dbname. Give a name alone"),
        ({"hosts": [{"host": "h", "replication": "database"}]}, "sets replication"),
        ({"hosts": [{"address": "postgresql://h", "port": 1}]}, "an address and also host, port or service"),
        ({"hosts": [{"address": 5}]}, "hosts[0]['address'] must be a URI, not 5."),
        ({"hosts": [{"database": "x", "host": "h"}]}, "hosts[0] has database and 'host'. 'database' is a name in"),
        ({"hosts": [{"database": "x", "host": "h", b"user": "u"}]}, "hosts[0] has database and 'host'."),
        ({"hosts": [{"database": ""}]}, "hosts[0] has database=''; give a name in DATABASES."),
        ({"hosts": [{"database": "defalt"}]}, "Did you mean 'default'?"),
        ({"hosts": [{**DJANGO, "ENGINE": "django.db.backends.mysql"}]}, "the database must be PostgreSQL"),
        ({"hosts": [{"ENGINE": DJANGO["ENGINE"]}]}, "hosts[0] has no NAME"),
        ({"hosts": [{**DJANGO, "HOSTS": "h"}]}, "hosts[0] has no option 'HOSTS'. Did you mean 'HOST'?"),
        ({"hosts": [{**DJANGO, "OPTIONS": [1]}]}, "hosts[0] has OPTIONS=[1]; give a dict."),
        ({"hosts": ["postgresql://h"], "services": ["m"]}, "services is for the Sentinels of Redis"),
        (
            {"hosts": ["postgresql://h"], "sentinel_refresh_interval": 1},
            "sentinel_refresh_interval is for the Sentinels",
        ),
        ({"hosts": ["postgresql://h"], "connection_kwargs": 5}, "connection_kwargs must be a dict of options of libpq"),
        ({"hosts": ["postgresql://h"], "connection_kwargs": {5: 5}}, "connection_kwargs has the key 5"),
        ({"hosts": ["postgresql://h"], "connection_kwargs": {"usr": 5}}, "connection_kwargs has no option 'usr'."),
    ],
    ids=str,
)
def test_refusals_name_the_culprit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_hosts(ServerOptions(**options))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("hosts", "kind"),
    [
        (None, "redis"),
        (5, "redis"),
        ([], "redis"),
        (["redis://h"], "redis"),
        ([("h", 6379)], "redis"),
        ([{"host": "h", "port": 5432}], "redis"),
        (["unix:///socket", {"host": "h"}], "redis"),
        (["postgresql://h", "postgres://h", {"host": "h"}], "postgresql"),
        ([{"address": "postgresql://h"}], "postgresql"),
        ([{"host": "h", "user": "u"}], "postgresql"),
        ([{"database": "default"}], "postgresql"),
        ([{"service": "messages"}], "postgresql"),
        ([DJANGO], "postgresql"),
    ],
    ids=str,
)
def test_the_first_host_tells_the_kind(hosts: Any, kind: str) -> None:
    assert kind_of(hosts) == kind


def test_hosts_of_two_kinds_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"hosts\[1\] is a PostgreSQL server, and this layer uses Redis\. All"):
        kind_of(["redis://h", "postgresql://h"])
    with pytest.raises(ConfigurationError, match=r"hosts\[1\] is a Redis server, and this layer uses PostgreSQL\. All"):
        kind_of([DJANGO, {"host": "h", "db": 0}])


@pytest.fixture
def databases(postgres_server: PostgresServer) -> Iterator[dict[str, dict[str, Any]]]:
    """DATABASES with a PostgreSQL server as `default`."""
    before = connections.settings
    site = {**DJANGO, "NAME": "postgres", "USER": "postgres", "HOST": "127.0.0.1", "PORT": postgres_server.port}
    found = connections.configure_settings({"default": site, "lite": {"ENGINE": "django.db.backends.sqlite3"}})
    connections.settings = found
    for alias in ("default", "lite"):
        with contextlib.suppress(AttributeError):  # this thread has not used it
            del connections[alias]
    yield found
    connections.settings = before
    for alias in ("default", "lite"):
        with contextlib.suppress(AttributeError):  # this thread has not used it
            del connections[alias]


def test_an_alias_is_looked_up_at_each_connect(
    databases: dict[str, dict[str, Any]], postgres_server: PostgresServer, database: str
) -> None:
    (host,) = parse_hosts(ServerOptions())
    assert host.label == "DATABASES['default']"
    with psycopg.connect(**host.parameters()) as connection:  # type: ignore[arg-type]
        assert connection.info.dbname == "postgres"
        assert connection.execute("SHOW application_name").fetchone() == ("hybrid_layer",)
    databases["default"]["NAME"] = database
    databases["default"]["OPTIONS"] = {"assume_role": "pg_monitor", "pool": True}
    with psycopg.connect(**host.parameters()) as connection:  # type: ignore[arg-type]
        assert connection.info.dbname == database
        assert connection.execute("SELECT current_user").fetchone() == ("pg_monitor",)
    databases["default"]["NAME"] = ""
    with pytest.raises(ImproperlyConfigured):
        host.parameters()


def test_an_alias_of_another_database_is_refused(databases: object) -> None:
    with pytest.raises(ConfigurationError, match=r"DATABASES\['lite'\] is SQLite, not PostgreSQL"):
        parse_host({"database": "lite"})
    with pytest.raises(ConfigurationError, match="Known: 'default', 'lite'"):
        parse_host({"database": "site"})


URIS = [
    f"postgresql://u:{SECRET}@h",
    f"postgresql://u:{SECRET}@h:1/db",
    f"postgresql://u:{SECRET}@h:x",
    f"postgresql://u:12/{SECRET}@h:1",
    f"postgresql://u:12@{SECRET}@h:1",
    f"postgresql://u:12?{SECRET}@h/db",
    f"postgresql://u:{SECRET}?x=y@h/db",
    f"postgresql://u:12#{SECRET}@h/db",
    f"postgresql://u:%{SECRET}@h/db",
    f"postgresql://u:{SECRET}",
    f"postgresql://h?password={SECRET}&port=x",
    f"postgresql://h?password={SECRET}&pasword=x",
    f"postgresql://h?{SECRET}",
    f"postgresql://h?{SECRET}=x",
    f" postgresql://u:{SECRET}@h",
    f"postgre://u:{SECRET}@h",
    f"{SECRET}://h",
    f"u:{SECRET}@h",
    f"host=h password={SECRET}",
]
uris = st.sampled_from(URIS)
leaves = st.one_of(uris, uris.map(str.encode), st.just(SECRET.encode()), st.sampled_from([None, True, 0, 5432, 1.5]))
HIDDEN = ("password", "sslpassword", "port", "options", "replication", "sslkey", "keepalives", "PASSWORD", "PORT")
OPEN = ("host", "hostaddr", "dbname", "service", "address", "database", "HOST", "NAME", "USER", "ENGINE", "user")


def dicts(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hidden = st.dictionaries(st.sampled_from(HIDDEN), st.one_of(inner, st.just(SECRET)), max_size=2)
    shown = st.dictionaries(st.sampled_from(OPEN), st.one_of(st.just("a"), inner), max_size=2)
    nested = st.dictionaries(st.just("OPTIONS"), inner, max_size=1)
    wrong = st.dictionaries(st.one_of(uris, st.just(SECRET.encode())), inner, max_size=1)
    together = st.tuples(hidden, shown, nested, wrong)
    return st.one_of(
        together.map(lambda all_of: {key: value for each in all_of for key, value in each.items()}),
        st.lists(inner, max_size=2),
    )


@given(st.lists(st.recursive(leaves, dicts, max_leaves=4), max_size=2), st.one_of(st.none(), dicts(leaves)))
def test_no_text_shows_a_password(hosts: list[Any], shared: Any) -> None:
    class Layer:
        @discreet
        def __init__(self, **options: Any) -> None:
            self.hosts = parse_hosts(ServerOptions(**options))

    try:
        found = Layer(hosts=hosts, connection_kwargs=shared).hosts
        text = f"{found!r} {[host.label for host in found]}"
    except ConfigurationError as error:
        text = said(error)
    assert SECRET not in text
