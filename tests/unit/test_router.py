"""Which half carries a channel."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.router import Route, Router
from tests.support.probe import cached


def test_by_the_name_alone() -> None:
    router = Router(None)
    assert router.route("a") is Route.LOCAL
    assert router.route("specific.AAAAAAAAAA!1") is Route.REMOTE
    assert router.route("specific.AAAAAAAAAA!") is Route.REMOTE


def test_first_match_wins() -> None:
    router = Router(
        {
            "video.local": "local",
            "video.*": "remote",
            re.compile(r"mail\.\d+$"): "remote",
            "*": "local",
            "never": "remote",
        }
    )
    expected = {
        "video.local": Route.LOCAL,
        "video.x": Route.REMOTE,
        "video": Route.LOCAL,
        "a.video.x": Route.LOCAL,
        "mail.1": Route.REMOTE,
        "mail.1.x": Route.LOCAL,
        "never": Route.LOCAL,
        "p!video.x": Route.REMOTE,
    }
    for _ in range(2):  # the second time out of its memory
        assert {name: router.route(name) for name in expected} == expected


def test_expression_matches_from_the_start() -> None:
    router = Router({re.compile("mail", re.IGNORECASE): "remote"})
    assert router.route("MAIL.x") is Route.REMOTE
    assert router.route("x.mail") is Route.LOCAL


def test_memory_is_bounded() -> None:
    router = Router({"x.*": "remote"})
    for n in range(10_000):
        router.route(f"x.{n}")
    assert cached(router) < 10_000
    assert router.route("x.1") is Route.REMOTE


@pytest.mark.parametrize(
    ("routes", "named"),
    [
        ({"a": "Remote"}, "did you mean 'remote'"),
        ({"a": "redis"}, "'redis'"),
        ({"a": None}, "None"),
        ({"a": True}, "True"),
        ({"specific.*!": "remote"}, "'specific.*!'"),
        ({re.compile("a!"): "remote"}, "a!"),
        ({re.compile(b"a"): "remote"}, "b'a'"),
        ({1: "remote"}, "1"),
        ({b"a": "remote"}, "b'a'"),
        ([("a", "remote")], "dict"),
        ("a", "dict"),
        ({"": "remote"}, "must be a glob"),
    ],
)
def test_wrong_routes(routes: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Router(routes)
    assert "routes" in str(refused.value)
    assert named.lower() in str(refused.value).lower()


def test_negation_is_no_mark_of_a_process() -> None:
    router = Router({re.compile("(?!mail)[a-z]+"): "remote", "[!v]ideo": "local"})
    assert router.route("video") is Route.REMOTE
    assert router.route("mail") is Route.LOCAL
