"""Policy: patterns and their order, and what is refused when a layer is built."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.policy import Policy
from tests.support.probe import cached


def test_defaults() -> None:
    policy = Policy(LayerOptions())
    assert (policy.expiry, policy.group_expiry, policy.capacity, policy.channel_capacity) == (60, 86400, 100, {})
    assert policy.uniform
    assert policy.capacity_for("any") == 100


def test_attributes_as_given() -> None:
    patterns = {"a*": 1, re.compile("b"): 2}
    policy = Policy(LayerOptions(expiry=0.5, group_expiry=7, capacity=3, channel_capacity=patterns))
    assert (policy.expiry, policy.group_expiry, policy.capacity) == (0.5, 7, 3)
    assert policy.channel_capacity == patterns
    assert not policy.uniform


def test_later_changes_of_the_dict_do_not_count() -> None:
    patterns: dict[str | re.Pattern[str], int] = {"a": 1}
    policy = Policy(LayerOptions(channel_capacity=patterns))
    patterns["b"] = 2
    assert policy.channel_capacity == {"a": 1}
    assert policy.capacity_for("b") == 100


@pytest.mark.parametrize(
    ("pattern", "channel", "matches"),
    [
        ("http.request", "http.request", True),
        ("http.request", "http.request.more", False),
        ("http.request", "my.http.request", False),
        ("http.*", "http.request", True),
        ("http.?", "http.ab", False),
        ("http.[ab]", "http.a", True),
        ("HTTP.*", "http.request", False),
        ("http.response!", "http.response!abc", True),  # by the non-local part
        ("http.response!*", "http.response!abc", True),
        ("http.response!*", "http.response!", True),
        ("http.response!abc", "http.response!abc", True),
        ("http.response!abc", "http.response!abd", False),
        ("*abc", "http.response!abc", True),
        (re.compile("http"), "http.request", True),  # from the start, as re.match
        (re.compile("request"), "http.request", False),
        (re.compile(r"http\.response!$"), "http.response!abc", True),
        (re.compile(r".*!1$"), "specific.abc!1", True),
    ],
)
def test_match(pattern: str | re.Pattern[str], channel: str, matches: bool) -> None:
    policy = Policy(LayerOptions(capacity=100, channel_capacity={pattern: 7}))
    for _ in range(2):  # the second answer may come from a cache
        assert policy.capacity_for(channel) == (7 if matches else 100)


def test_first_match_in_order_counts() -> None:
    assert Policy(LayerOptions(channel_capacity={"a.*": 1, "a.b": 2, re.compile("a"): 3})).capacity_for("a.b") == 1
    assert Policy(LayerOptions(channel_capacity={"a.b": 2, "a.*": 1})).capacity_for("a.b") == 2
    # An earlier pattern that matches the non-local part wins over a later one that matches the whole name.
    assert Policy(LayerOptions(channel_capacity={"x.p!": 1, "x.p!n": 2})).capacity_for("x.p!n") == 1


@given(st.lists(st.text("ab.!", min_size=1, max_size=6), max_size=20))
def test_cached_answers_are_the_first_ones(channels: list[str]) -> None:
    patterns: dict[str | re.Pattern[str], int] = {"a*": 1, "*b": 2, re.compile(r"[b.]+!"): 3}
    policy = Policy(LayerOptions(channel_capacity=patterns))
    first = [Policy(LayerOptions(channel_capacity=patterns)).capacity_for(channel) for channel in channels]
    assert [policy.capacity_for(channel) for channel in channels] == first
    assert [policy.capacity_for(channel) for channel in channels] == first


def test_cache_is_bounded() -> None:
    policy = Policy(LayerOptions(channel_capacity={"a": 1}))
    for n in range(10_000):
        policy.capacity_for(f"specific.p!{n}")
    assert cached(policy) <= 4096


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "100", None])
def test_refused_capacity(value: Any) -> None:
    text = re.escape(f"channel_capacity['http.*'] must be an int greater than 0, not {value!r}.")
    with pytest.raises(ConfigurationError, match=text):
        Policy(LayerOptions(channel_capacity={"http.*": value}))


def test_refused_capacity_of_a_compiled_pattern_names_it() -> None:
    with pytest.raises(
        ConfigurationError, match=re.escape("channel_capacity[re.compile('^a')] must be an int greater than 0, not 0.")
    ):
        Policy(LayerOptions(channel_capacity={re.compile("^a"): 0}))


@pytest.mark.parametrize("key", [b"a", re.compile(b"a"), 5, None, ("a",), ""])
def test_refused_pattern(key: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=re.escape(f"channel_capacity has the key {key!r}; a key must be a glob")
    ):
        Policy(LayerOptions(channel_capacity={key: 1}))


@pytest.mark.parametrize("value", [[("a", 1)], "a", 5, True, {"a"}])
def test_refused_patterns(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="channel_capacity must be a dict of patterns"):
        Policy(LayerOptions(channel_capacity=value))
