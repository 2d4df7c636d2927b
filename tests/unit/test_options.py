"""Option checks: each refusal names the option, shows the value and says what is expected."""

import math
import re
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import check_prefix, did_you_mean, positive_int, positive_number, refuse_unknown, shown

KNOWN = ("hosts", "prefix", "capacity", "channel_capacity", "expiry")


def test_no_unknown_option_is_fine() -> None:
    refuse_unknown({}, KNOWN, "HybridChannelLayer")


def test_unknown_option_that_is_near_to_none_lists_the_known() -> None:
    with pytest.raises(
        ConfigurationError, match="Known options: capacity, channel_capacity, expiry, hosts, prefix"
    ) as e:
        refuse_unknown({"zzzz": 1}, iter(KNOWN), "X")
    assert "Did you mean" not in str(e.value)


def test_did_you_mean_takes_anything() -> None:
    assert did_you_mean(None, KNOWN) == ""
    assert did_you_mean("hots", KNOWN) == " Did you mean 'hosts'?"


@pytest.mark.parametrize("value", [1, 0.5, 60, 1e9])
def test_positive_number(value: float) -> None:
    assert positive_number("expiry", value) is value


@pytest.mark.parametrize("value", [0, -1, 0.0, -0.5, math.nan, math.inf, True, False, "60", None, Decimal(1), [1]])
def test_positive_number_refuses(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"expiry must be a number greater than 0, not {value!r}.")):
        positive_number("expiry", value)


@pytest.mark.parametrize("value", [1, 100, 2**40])
def test_positive_int(value: int) -> None:
    assert positive_int("capacity", value) is value


@pytest.mark.parametrize("value", [0, -1, 1.5, 100.0, math.nan, math.inf, True, "100", None])
def test_positive_int_refuses(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"capacity must be an int greater than 0, not {value!r}.")):
        positive_int("capacity", value)


def test_positive_int_of_a_subclass_is_a_plain_one() -> None:
    """What packs commands takes no other."""

    class Size(IntEnum):
        SMALL = 10

    assert type(positive_int("capacity", Size.SMALL)) is int


def test_positive_int_with_a_minimum() -> None:
    assert positive_int("message_memory", 4096, minimum=4096) == 4096
    with pytest.raises(ConfigurationError, match="message_memory must be an int of at least 4096, not 4095"):
        positive_int("message_memory", 4095, minimum=4096)


@pytest.mark.parametrize("value", [1_000_000_001, 1.1e9, 1e300, 10**400])
def test_a_duration_that_no_clock_can_hold(value: float) -> None:
    with pytest.raises(ConfigurationError, match="expiry must be a number of at most 1,000,000,000, not "):
        positive_number("expiry", value)


def test_positive_int_with_a_maximum() -> None:
    assert positive_int("message_memory", 4096, maximum=4096) == 4096
    with pytest.raises(ConfigurationError, match="message_memory must be an int of at most 4,096, not 4097"):
        positive_int("message_memory", 4097, maximum=4096)
    with pytest.raises(ConfigurationError, match="capacity must be an int of at most 4,611,686,"):
        positive_int("capacity", 2**70)


@pytest.mark.parametrize("prefix", ["a", "asgi", "My_app-1.2:x/y", "x" * 50])
def test_prefix(prefix: str) -> None:
    assert check_prefix(prefix) is prefix


@pytest.mark.parametrize("prefix", ["", "x" * 51, "a b", "a\n", "caf\u00e9", "a!b", "{tag}", b"asgi", None, 5])
def test_prefix_refused(prefix: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=re.escape(f"prefix must be 1 to 50 ASCII letters, digits and characters of '_.:/-', not {prefix!r}."),
    ):
        check_prefix(prefix)


def test_shown_is_short_and_never_fails() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown("x") == "'x'"
    assert len(shown("x" * 1000)) == 120
    assert shown(Rude()) == "<Rude without a repr()>"
    assert "int" in shown(10**10_000)  # Python refuses to print it
