"""Options: the layer checks names, types and values when it is built, and each error names the wrong one."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from channels.layers import BaseChannelLayer
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from hybrid_layer import exceptions
from hybrid_layer.exceptions import ConfigurationError, HybridLayerError
from tests.contract import peers
from tests.contract.configurations import HYBRID, IPC, PUBSUB, QUEUE, LayerMaker
from tests.support.processes import Spawn

COMMON = [
    "prefix",
    "expiry",
    "group_expiry",
    "capacity",
    "channel_capacity",
    "max_message_size",
    "serializer_format",
    "symmetric_encryption_keys",
]
LOCAL = ["message_memory", "group_memory"]
REMOTE = [
    "hosts",
    "timeout",
    "block_time",
    "connection_kwargs",
    "services",
    "sentinel_refresh_interval",
    "on_disconnect",
    "on_reconnect",
]
OPTIONS = {
    IPC: COMMON + LOCAL,
    QUEUE: COMMON + REMOTE,
    PUBSUB: COMMON + REMOTE,
    HYBRID: [*COMMON, *LOCAL, *REMOTE, "remote", "routes"],
}
A_HOST = ["redis://127.0.0.1:1"]


def build(backend: str, **options: Any) -> Any:
    """A layer, with a host if the class takes one. Building it connects to nothing."""
    if backend != IPC:
        options.setdefault("hosts", A_HOST)
    return import_string(backend)(**{"prefix": "test-options", **options})


backends = pytest.mark.parametrize("backend", [IPC, HYBRID, QUEUE, PUBSUB], ids=["ipc", "hybrid", "queue", "pubsub"])


@backends
def test_every_option_of_the_class_is_one(backend: str) -> None:
    values: dict[str, Any] = {
        "prefix": "test-other",
        "expiry": 1.5,
        "group_expiry": 100,
        "capacity": 7,
        "channel_capacity": {"a.*": 5, re.compile("b"): 6},
        "max_message_size": 1000,
        "serializer_format": "json",
        "symmetric_encryption_keys": ["new", b"old"],
        "message_memory": 10 * 1024 * 1024,
        "group_memory": 2 * 1024 * 1024,
        "hosts": A_HOST,
        "timeout": 2.5,
        "block_time": 1,
        "connection_kwargs": {},
        "on_disconnect": "layer.lost",
        "on_reconnect": "layer.back",
        "remote": "pubsub",
        "services": ["one", "two"],
        "sentinel_refresh_interval": 5,
        "routes": {"video.*": "remote", re.compile("mail"): "local"},
    }
    layer = build(backend, **{name: values[name] for name in OPTIONS[backend]})
    for name in ("prefix", "expiry", "group_expiry", "capacity", "channel_capacity"):
        assert getattr(layer, name) == values[name]


@backends
def test_public_attributes_and_defaults(backend: str) -> None:
    layer = import_string(backend)()
    assert isinstance(layer, BaseChannelLayer)
    assert (layer.prefix, layer.expiry, layer.group_expiry, layer.capacity) == ("asgi", 60, 86400, 100)
    assert not layer.channel_capacity
    assert sorted(layer.extensions) == ["flush", "group_channels", "groups", "statistics"]
    assert issubclass(layer.ChannelFull, Exception)
    assert issubclass(layer.MessageTooLarge, ValueError)


def assert_names(error: pytest.ExceptionInfo[ConfigurationError], *words: str) -> None:
    assert isinstance(error.value, ImproperlyConfigured)
    assert isinstance(error.value, HybridLayerError)
    for word in words:
        assert word in str(error.value)


TYPOS = {
    "capcity": "capacity",
    "Capacity": "capacity",
    "expirey": "expiry",
    "groupexpiry": "group_expiry",
    "channel_capacities": "channel_capacity",
    "serialiser_format": "serializer_format",
    "symmetric_encryption_key": "symmetric_encryption_keys",
    "max_message_sise": "max_message_size",
    "prefx": "prefix",
    "message_mem": "message_memory",
    "group_mem": "group_memory",
    "host": "hosts",
    "route": "routes",
    "connection_kwarg": "connection_kwargs",
    "time_out": "timeout",
    "block_tme": "block_time",
    "on_disconect": "on_disconnect",
    "remot": "remote",
}


@pytest.mark.parametrize(
    ("backend", "wrong", "meant"),
    [(backend, wrong, meant) for backend, names in OPTIONS.items() for wrong, meant in TYPOS.items() if meant in names],
)
def test_unknown_option_gets_the_nearest_known_name(backend: str, wrong: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(backend, **{wrong: 5})
    assert_names(caught, repr(wrong), meant, backend.rpartition(".")[2])


@pytest.mark.parametrize(
    ("backend", "option"),
    [(backend, option) for backend, names in OPTIONS.items() for option in OPTIONS[HYBRID] if option not in names],
)
def test_option_of_another_class_is_unknown(backend: str, option: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(backend, **{option: None})
    assert_names(caught, option)


NOT_NUMBERS: list[Any] = ["60", None, True, [1], {}, 1j, ...]
NOT_POSITIVE: list[Any] = [0, -1, -0.5, math.nan, -math.inf, math.inf]
# Some of each kind: tests/unit has more for capacities and routes, tests/remote/test_hosts.py for hosts.
WRONG: dict[str, list[Any]] = {
    "prefix": ["", "x" * 51, "a b", "a|b", "a*b", "\u00e9", "a\n", None, 5, b"x", ["x"]],
    "expiry": [*NOT_NUMBERS, *NOT_POSITIVE],
    "group_expiry": [*NOT_NUMBERS, *NOT_POSITIVE],
    "capacity": [*NOT_NUMBERS, *NOT_POSITIVE, 2.5, 10.0],
    "channel_capacity": [5, {"a": 0}, {"a": 1.5}, {5: 5}],
    "max_message_size": [*NOT_NUMBERS, *NOT_POSITIVE, 2.5],
    "serializer_format": ["pickle", "", "MSGPACK ", None, 5, ["json"]],
    "symmetric_encryption_keys": ["one string", b"bytes", 5, {"a": 1}, [5], [None], ["good", ""], [[]]],
    "message_memory": [*NOT_NUMBERS, *NOT_POSITIVE, 1.5, "100 MiB", 1],
    "group_memory": [*NOT_NUMBERS, *NOT_POSITIVE, 1.5, "20 MiB", 1],
    "timeout": [*NOT_NUMBERS, *NOT_POSITIVE],
    "block_time": [*NOT_NUMBERS, *NOT_POSITIVE],
    "connection_kwargs": [5, "x", ["x"], {5: 5}],
    "on_disconnect": [5, "", "_lost", "a b", "lost\n", b"lost", True, {"type": "lost"}],
    "on_reconnect": [5, "", "_back", "9", ["back"]],
    "remote": ["pub/sub", "Queue", "", None, 5, True, ["queue"]],
    "services": [5, "one", [], [5], [""], ["one", "one"], {"one": 1}],
    "sentinel_refresh_interval": [*NOT_NUMBERS, -1, math.nan, math.inf],
    "hosts": [[], 5, [5], [""], ["127.0.0.1"], [("127.0.0.1", 70_000)], [{}], ["redis://127.0.0.1:nan"]],
    "routes": [5, {"video.*": "both"}, {"video!": "remote"}, {5: "remote"}],
}
CASES = [
    pytest.param(backend, name, value, id=f"{backend.rpartition('.')[2]}-{name}-{value!r:.40}")
    for backend, names in OPTIONS.items()
    for name in names
    for value in WRONG[name]
]


@pytest.mark.parametrize(("backend", "option", "value"), CASES)
def test_wrong_value_is_refused_when_the_layer_is_built(backend: str, option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(backend, **{option: value})
    assert_names(caught, option)
    assert len(str(caught.value)) < 600
    if option in ("hosts", "symmetric_encryption_keys"):
        return  # may contain secrets, so the error does not show them
    culprit = next(iter(value)) if isinstance(value, dict | list | tuple) and len(value) == 1 else value
    if isinstance(culprit, str | int | float) and culprit != "":
        assert str(culprit) in str(caught.value) or repr(culprit) in str(caught.value)


@pytest.mark.parametrize("backend", [HYBRID, QUEUE], ids=["hybrid", "queue"])
@pytest.mark.parametrize("secret", ["redis://:hunter2@127.0.0.1:nan", "http://user:hunter2@127.0.0.1/0"])
def test_refusal_of_a_host_does_not_show_its_password(backend: str, secret: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(backend, hosts=[secret])
    assert "hunter2" not in str(caught.value)


@backends
@pytest.mark.parametrize("keys", [[5], ["good secret", None], "a bare secret"], ids=str)
def test_refusal_of_keys_does_not_show_them(backend: str, keys: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(backend, symmetric_encryption_keys=keys)
    assert "good secret" not in str(caught.value)
    assert "bare secret" not in str(caught.value)


@backends
def test_options_are_keyword_only(backend: str) -> None:
    with pytest.raises(TypeError):
        import_string(backend)("asgi")


@pytest.mark.parametrize("backend", [HYBRID, QUEUE], ids=["hybrid", "queue"])
def test_random_prefix_length_is_accepted_with_one_warning(backend: str, spawn: Spawn) -> None:
    """Configurations of channels_redis build unchanged."""
    spec = {"backend": backend, "options": {"hosts": A_HOST, "random_prefix_length": 12}}
    warnings = spawn(peers.build_twice, spec).result()
    assert ["random_prefix_length" in text for text in warnings] == [True]


def test_errors_derive_from_one_base() -> None:
    public = {name: getattr(exceptions, name) for name in exceptions.__all__ if name != "ChannelFull"}
    assert all(issubclass(error, HybridLayerError) for error in public.values())
    for name, other in {
        "ConfigurationError": ImproperlyConfigured,
        "RemoteUnavailable": ConnectionError,
        "MessageTooLarge": ValueError,
        "SegmentBusy": Exception,
        "SegmentDamaged": Exception,
        "GroupMemoryFull": Exception,
        "TooManyProcesses": Exception,
    }.items():
        assert issubclass(public[name], other)


@pytest.mark.one_loop
@pytest.mark.configurations("each-path")
async def test_layer_uses_its_own_copy_of_the_options(make_layer: LayerMaker) -> None:
    patterns = {"jobs": 1}
    keys = ["a secret"]
    layer = make_layer(channel_capacity=patterns, symmetric_encryption_keys=keys)
    patterns["jobs"] = 100
    keys[0] = "another"
    await layer.send("jobs", {"n": 1})
    with pytest.raises(layer.ChannelFull):
        await layer.send("jobs", {"n": 2})
    assert await make_layer(symmetric_encryption_keys=["a secret"]).receive("jobs") == {"n": 1}
