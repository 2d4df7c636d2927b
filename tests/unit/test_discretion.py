"""No password and no key in any text, repr or log, nor in what Django's error page shows of our frames.

Whatever stands in the options, and wherever: what is refused is refused without a word of it.
"""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
from django.views.debug import ExceptionReporter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hybrid_layer
from hybrid_layer import HybridChannelLayer
from hybrid_layer.configuration import ServerOptions
from hybrid_layer.discretion import described
from hybrid_layer.exceptions import ConfigurationError, HybridLayerError
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.remote import RedisChannelLayer
from hybrid_layer.remote.redis.hosts.hosts import parse_hosts

SECRET = "hunter2hunter2"
OURS = str(Path(hybrid_layer.__file__).parent)

URIS = [
    f"redis://:{SECRET}@h",
    f"redis://:{SECRET}@h:1/0",
    f"redis://user:{SECRET}@h:x",
    f"redis://:12/{SECRET}@h:1",
    f"redis://:12?{SECRET}@h/0",
    f"redis://:12?db={SECRET}@h/0",
    f"redis://:1#{SECRET}@h/0",
    f"redis://h?password={SECRET}&db=x",
    f"redis://h?password={SECRET}&pasword=x",
    f"redis://h/{SECRET}",
    f" redis://:{SECRET}@h",
    f"redsi://:{SECRET}@h",
    f"{SECRET}://h",
    f"default:{SECRET}@h",
    f"unix://:{SECRET}@/x",
    f"unix://:12/{SECRET}@/x",
    f"unix:{SECRET}@/x",
]
uris = st.sampled_from(URIS)
texts = st.one_of(uris, uris.map(str.encode), st.just(SECRET.encode()))
"""What holds the secret, and is no host name by mistake."""
leaves = st.one_of(texts, st.sampled_from([None, True, 0, 6379, 1.5]))
OPEN = ("host", "path", "master_name")
KEYS = (
    "address",
    "cluster",
    "connection_class",
    "db",
    "decode_responses",
    "min_other_sentinels",
    "password",
    "port",
    "protocol",
    "retry",
    "sentinel_kwargs",
    "sentinels",
    "socket_timeout",
    "ssl",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_keyfile",
    "ssl_min_version",
    "ssl_password",
    "username",
    "virtual_shards",
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=3)
    public = st.fixed_dictionaries({}, optional={name: st.one_of(st.just("a"), texts) for name in OPEN})
    dicts = st.builds(lambda hidden, shown: {**dict(hidden), **shown}, pairs, public)
    hashable = st.one_of(texts, st.just(SECRET))
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.tuples(st.just("h"), st.one_of(inner, st.just(SECRET))),
        st.tuples(st.just("h"), st.just(6379), st.one_of(inner, st.just(SECRET))),
        dicts,
        pairs,
        st.frozensets(hashable, max_size=2).map(set),
        st.sampled_from(KEYS).map(lambda key: {"host": "h", key: SECRET}),
        st.dictionaries(texts.filter(lambda text: isinstance(text, bytes)), inner, max_size=2),
    )


anything = st.recursive(leaves, containers, max_leaves=6)


def said(error: BaseException) -> str:
    """All that is said of an error: its texts, those of what led to it, and our frames on Django's page."""
    parts = []
    at: BaseException | None = error
    while at is not None:
        parts += [str(at), repr(at), *getattr(at, "__notes__", [])]
        at = at.__cause__ or at.__context__
    reporter = ExceptionReporter(None, type(error), error, error.__traceback__)
    for frame in reporter.get_traceback_data()["frames"]:
        if frame["filename"].startswith(OURS):
            parts += [value for _, value in frame["vars"]]
    return "\n".join(parts)


def attempt(kind: Any, options: dict[str, Any]) -> str:
    try:
        return repr(kind(**options))
    except HybridLayerError as error:
        return said(error)


def build(**options: Any) -> str:
    """Everything that is said of a layer with these options, be it of an error or of what it leads to."""
    for kind in (RedisChannelLayer, HybridChannelLayer):
        try:
            layer: Any = kind(**options)
        except ConfigurationError as error:
            return said(error)
        assert SECRET not in repr(layer)
    try:
        hosts: Any = parse_hosts(ServerOptions(**options))
    except ConfigurationError as error:
        return str(error)
    return repr(hosts) + "".join(host.label for host in hosts if isinstance(hosts, tuple))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hosts=st.one_of(anything, anything.map(lambda entry: [entry])), kwargs=st.one_of(st.none(), anything))
def test_whatever_hosts_are(caplog: pytest.LogCaptureFixture, hosts: Any, kwargs: Any) -> None:
    caplog.clear()
    with warnings.catch_warnings(record=True) as warned:
        assert SECRET not in build(hosts=hosts, connection_kwargs=kwargs)
    assert SECRET not in caplog.text
    assert not [warning for warning in warned if SECRET in str(warning.message)]


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize(
    "form",
    [
        lambda uri: uri,
        lambda uri: (uri, 6379),
        lambda uri: [uri],
        lambda uri: [(uri, 6379)],
        lambda uri: [("h", 6379, uri)],
        lambda uri: [{"host": uri}],
        lambda uri: [{"path": uri}],
        lambda uri: [{"address": uri}],
        lambda uri: [{"cluster": uri}],
        lambda uri: [{"cluster": [uri, uri]}],
        lambda uri: [{"sentinels": uri, "master_name": "m"}],
        lambda uri: [{"sentinels": [uri], "master_name": "m"}],
        lambda uri: [{"sentinels": [("a", 1)], "master_name": uri}],
        lambda uri: [{"sentinels": [("a", 1)], "master_name": "m", "sentinel_kwargs": [("password", uri)]}],
        lambda uri: [{"host": "h", "db": uri}],
        lambda uri: [{"host": "h", "ssl": True, "ssl_cert_reqs": uri}],
        lambda uri: {uri},
        lambda uri: [[uri]],
    ],
)
def test_forms_of_hosts(uri: str, form: Any) -> None:
    assert SECRET not in build(hosts=form(uri))


@pytest.mark.parametrize(
    "options",
    [
        {"hosts": [("h", 1)], "services": [f"redis://:{SECRET}@h", 1]},
        {"services": f"redis://:{SECRET}@h"},
        {"hosts": [("h", 1)], "connection_kwargs": [("password", SECRET)]},
        {"hosts": [("h", 1)], "connection_kwargs": {"password": SECRET, "pasword": SECRET}},
        {"hosts": [("h", 1)], "symmetric_encryption_keys": [SECRET, 1]},
        {"hosts": [("h", 1)], "symmetric_encryption_keys": SECRET},
        {"symmetric_encryption_keys": {SECRET}},
        {"symmetric_encryption_keys": [SECRET], "capacity": 0},
        {"hosts": [f"redis://:{SECRET}@h"], "timeout": 0},
        {"url": f"redis://:{SECRET}@h"},
        {"hosts": [f"redis://:{SECRET}@h"], "on_disconnect": "x" * 5_000_000},
    ],
    ids=lambda options: "+".join(options),
)
def test_other_options(options: dict[str, Any]) -> None:
    for kind in (RedisChannelLayer, HybridChannelLayer, IPCChannelLayer):
        given: Any = options if kind is not IPCChannelLayer else {**options, "expiry": -1}
        assert SECRET not in attempt(kind, given)


def test_an_unexpected_error_tells_its_frames_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of what they hold."""
    monkeypatch.setattr("hybrid_layer.remote.redis.hosts.hosts.refuse_unused", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        RedisChannelLayer(hosts=[f"redis://:{SECRET}@h"])
    assert SECRET not in said(caught.value)
    assert "parse_hosts" in caught.value.__notes__[0]
    assert "discretion.py" in traceback.format_tb(caught.value.__traceback__)[-1]


@pytest.mark.parametrize("value", [None, 5, True, "", [], "x", [5], ["x", 1.5], {5: 5}, ("x",)])
def test_what_holds_no_secret_is_shown(value: Any) -> None:
    assert described(value) == repr(value)


@pytest.mark.parametrize(
    "value", ["xy", b"xy", ["x", "xy"], {"xy": 1}, {"x": ["xy"]}, {"xy"}, [[[[["xy"]]]]], object()]
)
def test_what_may_hold_one_is_not(value: Any) -> None:
    assert described(value) == f"<{type(value).__name__}>"
