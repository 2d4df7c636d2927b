"""The options of the remote half: the forms of `hosts`, and the errors for others."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.crc import key_slot

from hybrid_layer.configuration import ServerOptions
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.remote import RedisChannelLayer
from hybrid_layer.remote.redis.hosts.cluster import hash_tags
from hybrid_layer.remote.redis.hosts.hosts import parse_hosts
from tests.support.probe import node_of_cluster

pytestmark = pytest.mark.any_server


def parse(host: Any, **connection_kwargs: Any) -> Any:
    found: Any = parse_hosts(ServerOptions(hosts=[host], connection_kwargs=connection_kwargs))
    return found[0]


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("redis://localhost", "localhost:6379"),
        ("redis://:secret@example.org:7000/3", "example.org:7000/3"),
        ("valkey://example.org:7000", "example.org:7000"),
        ("redis://[::1]:7000", "[::1]:7000"),
        (("example.org", 7000), "example.org:7000"),
        (["example.org", 7000], "example.org:7000"),
        ({"address": "redis://example.org"}, "example.org:6379"),
        ({"address": ("example.org", 7000), "db": 2}, "example.org:7000/2"),
        ({"host": "example.org"}, "example.org:6379"),
        ({"host": "example.org", "port": "7000", "password": "a#b"}, "example.org:7000"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock/2"),
        ({"path": "/run/redis.sock"}, "unix:///run/redis.sock"),
        ({"sentinels": [("a", 1), "redis://b:2"], "master_name": "m", "db": 2}, "m (Sentinels a:1, b:2)"),
        ({"sentinels": [{"host": "a", "port": 1}], "master_name": "m", "min_other_sentinels": 1}, "m (Sentinels a:1)"),
    ],
)
def test_forms_of_a_host(host: Any, label: str) -> None:
    assert parse(host).label == label


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("redis://localhost", Connection),
        ("rediss://localhost", SSLConnection),
        ("valkeys://localhost", SSLConnection),
        ({"host": "localhost", "ssl": True}, SSLConnection),
        ("unix:///run/redis.sock", UnixDomainSocketConnection),
    ],
)
def test_kind_of_connection(host: Any, expected: type) -> None:
    assert type(parse(host).new_connection()) is expected


def test_default_is_one_server_on_this_machine() -> None:
    assert [host.label for host in parse_hosts(ServerOptions())] == ["localhost:6379"]


def test_connections_speak_resp2_and_repeat_nothing() -> None:
    connection: Any = parse("redis://localhost").new_connection()
    assert connection.protocol == 2
    assert connection.retry._retries == 0
    assert connection.socket_timeout is None


def test_connection_kwargs_are_for_every_host_and_the_hosts_own_options_win() -> None:
    hosts: Any = parse_hosts(
        ServerOptions(hosts=["redis://a", {"host": "b", "db": 3}], connection_kwargs={"db": 1, "username": "u"})
    )
    assert [(host.kwargs["db"], host.kwargs["username"]) for host in hosts] == [(1, "u"), (3, "u")]


def test_options_of_a_cluster_are_for_all_its_nodes() -> None:
    entry = {"cluster": ["rediss://b:7000", {"host": "c"}], "ssl": True, "username": "u", "virtual_shards": 3}
    hosts: Any = parse_hosts(ServerOptions(hosts=[entry, "redis://a"], connection_kwargs={"password": "p"}))
    assert [host.tag for host in hosts] == [*hash_tags(3), ""]
    known = node_of_cluster(hosts[0], "elsewhere", 7001)
    assert known.label == "elsewhere:7001 (cluster b:7000, c:6379)"
    assert (known.kwargs["username"], known.kwargs["password"]) == ("u", "p")
    assert known.connection_class is SSLConnection
    assert known.new_connection().ssl_context is known.tls


def test_the_tags_of_a_cluster_never_change_and_are_spread_evenly() -> None:
    assert hash_tags(4) == ["3", "2", "1", "0"]
    assert " ".join(hash_tags(16)) == "10 3 61 43 11 2 60 42 12 1 63 41 13 0 62 40"  # as docs/wire_format.rst has it
    for count in (1, 16, 256):
        slots = [key_slot(tag.encode()) for tag in hash_tags(count)]
        assert [slot * count // 16384 for slot in slots] == list(range(count))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hosts": []}, "hosts=[] names no server"),
        ({"hosts": "redis://localhost"}, "give a list, even for one host"),
        ({"hosts": {"host": "localhost"}}, "give a list, even for one host"),
        ({"hosts": ("localhost", 6379)}, "put it into a list"),
        ({"hosts": 6379}, "hosts must be a list of URIs, (host, port) pairs or dicts, not 6379."),
        ({"hosts": [6379]}, "hosts[0] must be a URI such as"),
        ({"hosts": ["localhost:6379"]}, "lacks '://'"),
        ({"hosts": ["redsi://localhost"]}, "Did you mean 'redis'"),
        ({"hosts": [" redis://localhost"]}, "hosts[0] begins or ends with a blank"),
        ({"hosts": ["redis://:a#b@localhost"]}, "%23"),
        ({"hosts": ["redis://:12?a@localhost/0"]}, "percent-encoded"),
        ({"hosts": ["redis://:12/a@localhost:1"]}, "percent-encoded"),
        ({"hosts": ["unix://:12/a@/path"]}, "percent-encoded"),
        ({"hosts": [("redis://a", 6379)]}, "a URI into the list by itself"),
        ({"hosts": [{"host": "a", "db": "xy"}]}, "db=<str>; it must be a number"),
        ({"hosts": [{"path": "unix:///a"}]}, "a URI as path"),
        ({"hosts": ["redis://:a/b@localhost:6379"]}, "no valid port"),
        ({"hosts": ["redis://localhost:port"]}, "no valid port"),
        ({"hosts": ["redis://localhost/zero"]}, "names a database by a text; it must be a number"),
        ({"hosts": ["unix://"]}, "no path"),
        ({"hosts": ()}, "hosts=[] names no server"),
        ({"hosts": [None]}, "hosts[0] must be a URI such as"),
        ({"hosts": [{"address": 5}]}, "hosts[0]['address'] must be a URI"),
        ({"hosts": [("localhost",)]}, "hosts[0] must be a pair (host, port), not "),
        ({"hosts": [("localhost", "x", 3)]}, "hosts[0] must be a pair (host, port), not "),
        ({"hosts": [("localhost", None)]}, "port=None"),
        ({"hosts": [("localhost", 0)]}, "port=0"),
        ({"hosts": [("localhost", "x")]}, "port='x'"),
        ({"hosts": [(6379, "localhost")]}, "host=6379"),
        ({"hosts": [{}]}, "names no server"),
        ({"hosts": [{"port": 6379}]}, "names no server"),
        ({"hosts": [{"host": "a", "path": "/b"}]}, "a path and a host"),
        ({"hosts": [{"address": "redis://a", "port": 1}]}, "give one or the other"),
        ({"hosts": [{"host": "a", "pasword": "x"}]}, "Did you mean 'password'"),
        ({"hosts": ["redis://a?pasword=x"]}, "Did you mean 'password'"),
        ({"hosts": [{"sentinels": [("a", 1)]}]}, "hosts[0] has master_name=None"),
        ({"hosts": [{"master_name": "m"}]}, "hosts[0] has sentinels=None"),
        ({"hosts": [{"sentinels": [], "master_name": "m"}]}, "hosts[0] has sentinels=[]"),
        ({"hosts": [{"sentinels": [("a", 0)], "master_name": "m"}]}, "hosts[0]['sentinels'][0] has port=0"),
        ({"hosts": [{"sentinels": [("a", 1)], "master_name": "m", "host": "a"}]}, "sentinels and a host"),
        ({"hosts": [{"sentinels": [("a", 1)], "master_name": "m", "pasword": "x"}]}, "Did you mean 'password'"),
        ({"hosts": [{"sentinels": [("a", 1)], "master_name": "m", "sentinel_kwargs": 1}]}, "sentinel_kwargs=1"),
        ({"hosts": [{"sentinels": [("a", 1)], "master_name": "m", "sentinel_kwargs": {"usernam": 1}}]}, "'username'"),
        ({"hosts": [{"cluster": "redis://a"}]}, "hosts[0] has cluster=<str>"),
        ({"hosts": [{"cluster": []}]}, "hosts[0] has cluster=[]"),
        ({"hosts": [{"cluster": ["a:1"]}]}, "hosts[0]['cluster'][0] is not a URI"),
        ({"hosts": [{"cluster": [("a", 0)]}]}, "hosts[0]['cluster'][0] has port=0"),
        ({"hosts": [{"cluster": ["unix:///a"]}]}, "hosts[0]['cluster'][0] is a Unix socket"),
        ({"hosts": [{"cluster": ["redis://a/1"]}]}, "a cluster has only the database 0"),
        ({"hosts": [{"cluster": [("a", 1)], "db": 1}]}, "a cluster has only the database 0"),
        ({"hosts": [{"cluster": [("a", 1)]}], "connection_kwargs": {"db": 1}}, "a cluster has only the database 0"),
        ({"hosts": [{"cluster": [("a", 1)], "host": "a"}]}, "cluster and host"),
        ({"hosts": [{"cluster": [("a", 1)], "master_name": "a"}]}, "cluster and master_name"),
        ({"hosts": [{"cluster": [("a", 1)], "pasword": "x"}]}, "Did you mean 'password'"),
        ({"hosts": [{"cluster": ["redis://:x@a", "redis://b"]}]}, "hosts[0]['cluster'][1] has other options"),
        ({"hosts": [{"cluster": ["redis://a", "rediss://b"]}]}, "hosts[0]['cluster'][1] has other options"),
        (
            {"hosts": [{"cluster": [("a", 1)], "virtual_shards": 0}]},
            "hosts[0]: virtual_shards must be an int greater than 0, not 0.",
        ),
        ({"hosts": [{"cluster": [("a", 1)], "virtual_shards": 257}]}, "at most 256"),
        ({"services": ["m"]}, "services=['m'] needs hosts"),
        ({"services": "*"}, "services='*' needs hosts"),
        ({"hosts": [("a", 1)], "services": "m"}, "services must be a list of names"),
        ({"hosts": [("a", 1)], "services": ["m", "m"]}, "names a service twice"),
        ({"hosts": [("a", 1)], "services": []}, "for all, not []."),
        ({"sentinel_refresh_interval": -1}, "sentinel_refresh_interval must be a number greater than 0, not -1."),
        ({"hosts": [{"host": "a", "retry_on_timeout": True}]}, "retry_on_timeout"),
        ({"hosts": ["redis://a?retry_on_timeout=yes"]}, "nothing is repeated"),
        ({"hosts": [{"host": "a", "protocol": 3}]}, "RESP2"),
        ({"hosts": [{"host": "a", "decode_responses": True}]}, "decode_responses"),
        ({"hosts": [{"host": "a", "socket_timeout": 1}]}, "greater than block_time=2"),
        ({"hosts": [{"host": "a", "socket_timeout": 4}], "block_time": 5}, "greater than block_time=5"),
        ({"connection_kwargs": []}, "connection_kwargs must be a dict of options of redis-py, not []."),
        ({"connection_kwargs": {"pasword": "x"}}, "Did you mean 'password'"),
        ({"connection_kwargs": {"ssl_ca_certs": "x"}}, "another kind of connection"),
        ({"connection_kwargs": {"retry_on_error": [OSError]}}, "retry_on_error"),
        ({"timeout": 0}, "timeout must be a number greater than 0, not 0."),
        ({"timeout": "5"}, "timeout must be a number greater than 0, not '5'."),
        ({"block_time": -1}, "block_time must be a number greater than 0, not -1."),
        ({"time_out": 3}, "Did you mean 'timeout'"),
        ({"host": "redis://localhost"}, "Did you mean 'hosts'"),
    ],
    ids=str,
)
def test_refusals_name_the_culprit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisChannelLayer(**options)
    assert words in str(caught.value)


def test_a_refusal_never_shows_a_password() -> None:
    for uri in ("redis://:hush@localhost:x", "redis://:hu#sh@localhost", "redsi://:hush@localhost"):
        with pytest.raises(ConfigurationError) as caught:
            RedisChannelLayer(hosts=[uri])
        assert "hush" not in str(caught.value)
    assert "hush" not in parse("redis://:hush@localhost").label


def test_options_that_do_nothing_are_accepted_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hybrid_layer"):
        RedisChannelLayer(random_prefix_length=12, hosts=[{"host": "a", "max_connections": 5}])
    for name in ("random_prefix_length", "max_connections"):
        assert any(name in record.getMessage() for record in caplog.records)
