"""Names: what is allowed, what the refusal says, and the parts of process-specific names."""

import re
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybrid_layer import names
from hybrid_layer.exceptions import HybridLayerError, InvalidName
from hybrid_layer.ipc import IPCChannelLayer
from tests.support.probe import probe, remember_at_most

ALPHABET = string.ascii_letters + string.digits + "-_."


@pytest.mark.parametrize("name", ["a", "A.b-c_9", ".", "-", "x" * 99, *ALPHABET])
def test_allowed_for_both(name: str) -> None:
    names.check_channel(name)
    names.check_group(name)


@pytest.mark.parametrize("name", ["specific.abc!", "specific.abc!12", "a!b.c-d_e", "x" * 98 + "!"])
def test_process_specific_names_are_channels_only(name: str) -> None:
    names.check_channel(name)
    with pytest.raises(InvalidName, match='only the names of process-specific channels have a "!"'):
        names.check_group(name)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (b"abc", "must be a str, not bytes"),
        (bytearray(b"abc"), "must be a str, not bytearray"),
        (None, "must be a str, not NoneType"),
        (7, "must be a str, not int"),
        (["a"], "must be a str, not list"),
        ("", "is empty"),
        ("x" * 100, "has 100 characters; at most 99"),
        ("a\n", r"'\n' at position 1"),
        ("a b", "' ' at position 1"),
        ("caf\u00e9", "'\u00e9' at position 3"),
        ("a\u0663", "at position 1"),  # a digit to \d
        ("room/7", "'/' at position 4"),
    ],
)
@pytest.mark.parametrize("check", [names.check_channel, names.check_group])
def test_refusal_shows_the_name_and_what_is_wrong(check: Any, name: Any, wrong: str) -> None:
    with pytest.raises(InvalidName, match=re.escape(wrong)) as caught:
        check(name)
    assert repr(name) in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, HybridLayerError)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("a!b!c", 'more than one "!"'), ("a!!", 'more than one "!"'), ("!a", 'there must be a name before the "!"')],
)
def test_refusal_of_a_misplaced_mark(name: str, wrong: str) -> None:
    with pytest.raises(InvalidName, match=wrong):
        names.check_channel(name)


def test_refusal_says_which_kind_of_name() -> None:
    with pytest.raises(InvalidName, match="Invalid channel name"):
        names.check_channel("a b")
    with pytest.raises(InvalidName, match="Invalid group name"):
        names.check_group("a b")


def test_refusal_of_a_very_long_name_is_short() -> None:
    with pytest.raises(InvalidName) as caught:
        names.check_channel("x" * 1_000_000)
    assert len(str(caught.value)) < 400


def test_the_verdict_does_not_depend_on_earlier_calls() -> None:
    for _ in range(2):
        names.check_channel("asked.twice!1")
        with pytest.raises(InvalidName):
            names.check_group("asked.twice!1")
        with pytest.raises(InvalidName):
            names.check_channel("asked twice")


@given(st.text(max_size=120) | st.text(alphabet=ALPHABET + "!", max_size=120))
@example("a\n")
@example("x" * 100)
@example("specific.abc!1\n")
@example("specific.abc!\u0661")
def test_agrees_with_the_rule_in_words(name: str) -> None:
    head, mark, tail = name.partition("!")
    right = 0 < len(name) < 100 and bool(head) and all(c in ALPHABET for c in head + tail)
    assert accepts(names.check_channel, name) == right
    assert accepts(names.check_group, name) == (right and not mark)


def accepts(check: Any, name: str) -> bool:
    try:
        check(name)
    except InvalidName:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "non_local", "local", "process"),
    [
        ("chat", "chat", "", "chat"),
        ("specific.abc!12", "specific.abc!", "12", "abc"),
        ("specific.abc!", "specific.abc!", "", "abc"),
        ("a.b.abc!1.2", "a.b.abc!", "1.2", "abc"),
        ("abc!1", "abc!", "1", "abc"),
    ],
)
def test_parts(name: str, non_local: str, local: str, process: str) -> None:
    assert names.non_local(name) == non_local
    assert names.local(name) == local
    assert names.process_of(name) == process


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("specific.ABCDEFGHIJ-K234567LMN!12", "ABCDEFGHIJ"),
        ("ABCDEFGHIJ-K234567LMN!", "ABCDEFGHIJ"),
        ("a.ABCDEFGHIJ-K234567LMN.ABCDEFGHIJ-K234567LMN!", "ABCDEFGHIJ"),
        ("ABCDEFGHIJ-K234567LMN", ""),
        ("specific.ABCDEFGHIJ!ABCDEFGHIJ-K234567LMN", ""),
        ("specific.ABCDEFGHIJ-K234567LMN.x!", ""),
        ("specific.xABCDEFGHIJ-K234567LMN!", ""),
        ("specific.ABCDEFGHIJ-K234567LMNO!", ""),
        ("specific.ABCDEFGHI-K234567LMNO!", ""),
        ("specific.ABCDEFGHIJ-K234567LM1!", ""),
        ("specific.abcdefghij-K234567LMN!", ""),
        ("specific.ABCDEFGHIJ_K234567LMN!", ""),
        ("specific.ABCDEFGHIJ-K234567LMN\n!", ""),
        ("chat", ""),
    ],
)
def test_the_machine_that_a_channel_is_named_after(name: str, machine: str) -> None:
    assert names.machine_of(name) == machine


def test_names_that_may_be_read_are_remembered_in_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_at_most(monkeypatch, 10)
    layer = IPCChannelLayer(prefix="names")  # attaches to nothing before it is used
    for n in range(100):
        assert probe(layer).receives_on(f"normal.{n}")
        assert probe(layer).remembered <= 10
