"""Configurations of other layers stay: each of them, as its documentation shows it, builds one of ours."""

from __future__ import annotations

import inspect
import re
from itertools import pairwise
from typing import Any

import pytest
from django.utils.module_loading import import_string

from hybrid_layer.exceptions import ConfigurationError
from tests.docs import texts

PAGE = "docs/migrating.rst"

HYBRID = "hybrid_layer.HybridChannelLayer"
LOCAL = "hybrid_layer.ipc.IPCChannelLayer"
QUEUED = "hybrid_layer.remote.RedisChannelLayer"
PUBSUB = "hybrid_layer.remote.RedisPubSubChannelLayer"

CAPACITIES = {"http.request": 200, "http.response!*": 10, re.compile(r"^websocket.send\!.+"): 20}
SECRET_KEY = "a secret of Django's"
SENTINEL = {"sentinels": [("localhost", 26379)], "master_name": "mymaster"}

# What the predecessors' own pages show, and what takes it as it is.
CONFIGURATIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "channels_redis core: a pair": ((HYBRID, QUEUED), {"hosts": [("localhost", 6379)]}),
    "channels_redis core: a URI with a password": (
        (HYBRID, QUEUED),
        {"hosts": ["redis://:password@127.0.0.1:6379/0"], "symmetric_encryption_keys": [SECRET_KEY]},
    ),
    "channels_redis core: capacities": (
        (HYBRID, QUEUED),
        {"hosts": [("localhost", 6379)], "channel_capacity": CAPACITIES},
    ),
    "channels_redis core: every option": (
        (HYBRID, QUEUED),
        {
            "hosts": ["redis://localhost:6379"],
            "prefix": "asgi",
            "expiry": 60,
            "group_expiry": 86400,
            "capacity": 100,
            "channel_capacity": None,
            "symmetric_encryption_keys": None,
            "serializer_format": "json",
        },
    ),
    "channels_redis core: no options": ((QUEUED,), {}),
    "channels_redis core: a self-signed server": (
        (HYBRID, QUEUED),
        {"hosts": [{"address": "rediss://user@host:6380", "ssl_cert_reqs": None}]},
    ),
    "channels_redis core: Sentinel": ((HYBRID, QUEUED), {"hosts": [{**SENTINEL, "password": "x"}]}),
    "channels_redis core: Sentinel beside a plain server": (
        (HYBRID, QUEUED),
        {"hosts": [{**SENTINEL, "sentinel_kwargs": {"password": "x"}}, ("localhost", 6379)]},
    ),
    "channels_redis core: a Unix socket": ((HYBRID, QUEUED), {"hosts": ["unix:///path/to/redis.sock"]}),
    "channels_redis pubsub": ((PUBSUB,), {"hosts": [("localhost", 6379)]}),
    "channels_redis pubsub: every option": (
        (PUBSUB,),
        {
            "hosts": ["redis://localhost:6379"],
            "prefix": "asgi",
            "on_disconnect": "redis.disconnect",
            "on_reconnect": "redis.reconnect",
            "symmetric_encryption_keys": [SECRET_KEY],
            "serializer_format": "msgpack",
        },
    ),
    "channels_valkey core": ((HYBRID, QUEUED), {"hosts": ["valkey://:password@127.0.0.1:6379/0"]}),
    "channels_valkey pubsub: a self-signed server": (
        (PUBSUB,),
        {"hosts": [{"address": "valkeys://user@host:6380", "ssl_cert_reqs": None}]},
    ),
    "channels_valkey pubsub: Sentinel": ((PUBSUB,), {"hosts": [SENTINEL]}),
    "channels_valkey: a Unix socket": ((HYBRID, PUBSUB), {"hosts": ["unix:///path/to/valkey.sock"]}),
    "channels_postgres: what is left of it": (
        (HYBRID,),
        {"prefix": "asgi", "expiry": 60, "symmetric_encryption_keys": [SECRET_KEY]},
    ),
    "the in-memory layer: every option": (
        (HYBRID, LOCAL),
        {"expiry": 60, "group_expiry": 86400, "capacity": 100, "channel_capacity": None},
    ),
    "asgi_redis: the hybrid": (
        (HYBRID,),
        {"hosts": ["redis://:password@127.0.0.1:6379/0"], "symmetric_encryption_keys": [SECRET_KEY]},
    ),
    "asgi_redis: a host and a database": (
        (HYBRID, QUEUED),
        {"hosts": [{"host": "redis", "db": 4}], "channel_capacity": {"http.request": 200, "http.response*": 10}},
    ),
    "asgi_redis: connection_kwargs": (
        (HYBRID, QUEUED),
        {
            "hosts": [("localhost", 6379)],
            "connection_kwargs": {
                "socket_connect_timeout": 2,
                "socket_timeout": 6,
                "socket_keepalive": True,
                "socket_keepalive_options": {},
            },
        },
    ),
    "asgi_redis: Sentinel services": (
        (HYBRID, QUEUED),
        {
            "hosts": [("10.0.0.1", 26739), ("10.0.0.2", 26379), ("10.0.0.3", 26379)],
            "services": ["shard1", "shard2", "shard3"],
            "sentinel_refresh_interval": 5,
        },
    ),
    "asgi_ipc: every option": (
        (LOCAL, HYBRID),
        {
            "prefix": "asgi",
            "message_memory": 104857600,
            "group_memory": 20971520,
            "expiry": 60,
            "group_expiry": 86400,
            "capacity": 10,
            "channel_capacity": {"http.request": 100},
        },
    ),
}

CASES = [(name, backend, config) for name, (backends, config) in CONFIGURATIONS.items() for backend in backends]


@pytest.mark.parametrize(
    ("backend", "config"),
    [(backend, config) for _, backend, config in CASES],
    ids=[f"{name}, {backend.rpartition('.')[2]}" for name, backend, _ in CASES],
)
def test_their_configuration_builds_our_layer(backend: str, config: dict[str, Any]) -> None:
    layer = import_string(backend)(**config)
    assert layer.capacity == config.get("capacity", 100)
    assert layer.expiry == config.get("expiry", 60)


def test_what_is_refused_names_the_option() -> None:
    with pytest.raises(ConfigurationError, match="stats_prefix"):
        import_string(QUEUED)(stats_prefix="asgi-meta:")
    with pytest.raises(ConfigurationError, match="socket_timeout"):
        import_string(QUEUED)(connection_kwargs={"socket_timeout": 1})


# The page


def blocks() -> list[tuple[str, dict[str, Any]]]:
    """ "before" or "after", and the backend that the block sets."""
    found = []
    for block in texts.code(texts.tree(PAGE), "python"):
        namespace: dict[str, Any] = {}
        exec(block, namespace)
        found.append((block.splitlines()[0].removeprefix("# "), namespace["CHANNEL_LAYERS"]["default"]))
    return found


@pytest.mark.parametrize("backend", [backend for when, backend in blocks() if when == "after"])
def test_an_after_of_the_page_builds(backend: dict[str, Any]) -> None:
    import_string(backend["BACKEND"])(**backend.get("CONFIG", {}))


def test_the_page_keeps_the_config_where_it_says_so() -> None:
    shown = blocks()
    assert [when for when, _ in shown].count("before") == 3
    for (when, backend), (then, ours) in pairwise(shown):
        if when == "before":
            assert then == "after"
            assert backend.get("CONFIG") == ours.get("CONFIG")


def test_options_that_stay_are_options_of_ours() -> None:
    """In the first column of each table, or the text says what happens to it."""
    ours = set()
    for name in (HYBRID, LOCAL, QUEUED, PUBSUB):
        ours |= set(inspect.signature(import_string(name)).parameters)
    theirs_only = {"stats_prefix", "ROUTING", "anything else"}
    classes = {"RedisChannelLayer", "RedisLocalChannelLayer", "RedisSentinelChannelLayer"}
    named = {
        option.strip()
        for table in texts.first_cells(texts.tree(PAGE))
        for cell in table
        for option in cell.split(",")
        if option.strip()
    }
    assert named - ours == (theirs_only | classes) & named
    assert len(named & ours) >= 12
