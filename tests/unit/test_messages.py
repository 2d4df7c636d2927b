"""What a message may hold: the check, the path in its errors, and the copy in base types."""

import array
import datetime
import decimal
import enum
import math
import re
import uuid
from collections import Counter, OrderedDict, defaultdict
from types import MappingProxyType
from typing import Any

import pytest
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import strategies as st

from hybrid_layer.exceptions import HybridLayerError, InvalidMessageType, InvalidMessageValue
from hybrid_layer.messages import INT_MAX, INT_MIN, check, plain
from tests.unit.samples import CONVERTED, MESSAGES, Number, Text, nested, same


@given(MESSAGES)
def test_base_types_pass_as_they_are(message: dict[str, Any]) -> None:
    assert check(message) is True


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, INT_MIN, INT_MAX, "", "\0", "\U0001f600", b"\xff", [], {}]
)
def test_odd_values_pass(value: Any) -> None:
    assert check({"": value, "\u00fc": [value]}) is True


@pytest.mark.parametrize(("sent", "arrives"), CONVERTED)
def test_other_types_pass_and_are_copied_to_base_types(sent: Any, arrives: Any) -> None:
    for message, copy in (
        ({"a": sent}, {"a": arrives}),
        ({"a": {"b": [0, [sent]], "c": 1}}, {"a": {"b": [0, [arrives]], "c": 1}}),
    ):
        assert check(message) is False
        assert same(plain(message), copy)


def test_a_message_may_be_of_a_subclass() -> None:
    message = OrderedDict(b=1, a=2)
    assert check(message) is False
    assert same(plain(message), {"b": 1, "a": 2})


@given(MESSAGES)
def test_a_copy_shares_nothing_that_can_be_changed(message: dict[str, Any]) -> None:
    copy = plain(message)
    assert same(copy, message)
    assert not containers(copy) & containers(message)


def containers(value: Any) -> set[int]:
    if isinstance(value, dict):
        return {id(value)}.union(*map(containers, value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*map(containers, value))
    return set()


class Plain(enum.Enum):
    A = "a"


WRONG_TYPES = [
    (datetime.datetime(2000, 1, 1), "datetime.datetime"),
    (decimal.Decimal(1), "decimal.Decimal"),
    (uuid.uuid4(), "uuid.UUID"),
    ({1}, "set"),
    (frozenset(), "frozenset"),
    (1j, "complex"),
    (range(3), "range"),
    (object(), "object"),
    (dict, "type"),
    (Plain.A, "tests.unit.test_messages.Plain"),
    (MappingProxyType({"a": 1}), "mappingproxy"),
    ((n for n in range(3)), "generator"),
    (array.array("h"), "array.array"),
]


@pytest.mark.parametrize(("value", "name"), WRONG_TYPES)
def test_wrong_type_is_named_with_its_path(value: Any, name: str) -> None:
    with pytest.raises(InvalidMessageType) as caught:
        check({"fine": 1, "user": {"born": value}})
    assert str(caught.value) == (
        f'message["user"]["born"]: {name} is not allowed; use str, bytes, int, float, bool, None, list or dict.'
    )
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, HybridLayerError)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"a": object()}, 'message["a"]'),
        ({"a": [1, object()]}, 'message["a"][1]'),
        ({"a": (1, {"b": object()})}, 'message["a"][1]["b"]'),
        ({"a": OrderedDict(b=object())}, 'message["a"]["b"]'),
        ({'a"b\n': object()}, r'message["a\"b\n"]'),
        ({"\u00fc": object()}, 'message["\u00fc"]'),
        ({"x" * 100: object()}, f'message["{"x" * 57}..."]'),
        ({"a": {1}, "b": {2}}, 'message["a"]'),
    ],
)
def test_path(message: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidMessageType, match="^" + re.escape(path + ": ")):
        check(message)


@pytest.mark.parametrize("lazy", [lazystr("text"), SimpleLazyObject(lambda: "text"), SimpleLazyObject(dict)])
def test_lazy_objects_are_refused(lazy: Any) -> None:
    with pytest.raises(InvalidMessageType, match=r'^message\["title"\]: lazy objects .* str\(\)'):
        check({"title": lazy})


@pytest.mark.parametrize("message", [None, "text", b"", 1, [], [("a", 1)], object(), SimpleLazyObject(dict)])
def test_a_message_must_be_a_dict(message: Any) -> None:
    with pytest.raises(InvalidMessageType, match=f"A message must be a dict, not .*{type(message).__name__}"):
        check(message)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({1: 2}, "message: the key 1 (int) is not allowed; keys must be str."),
        ({"seats": {b"a": 2}}, "message[\"seats\"]: the key b'a' (bytes) is not allowed; keys must be str."),
        ({"a": [{None: 2}]}, 'message["a"][0]: the key None (NoneType) is not allowed; keys must be str.'),
        ({"a": {("b",): 1}}, "message[\"a\"]: the key ('b',) (tuple) is not allowed; keys must be str."),
    ],
)
def test_keys_must_be_str(message: Any, text: str) -> None:
    with pytest.raises(InvalidMessageType, match="^" + re.escape(text) + "$"):
        check(message)


@pytest.mark.parametrize("number", [INT_MIN - 1, INT_MAX + 1, 2**64, Number(2**63), 10**10_000], ids=hex)
def test_ints_have_64_bits(number: int) -> None:
    for message, path in (({"n": number}, 'message["n"]'), ({"n": [0, number]}, 'message["n"][1]')):
        with pytest.raises(InvalidMessageValue, match="^" + re.escape(path) + ": .* 64 bits .* str") as caught:
            check(message)
        assert isinstance(caught.value, ValueError)
        assert len(str(caught.value)) < 200


def test_int_that_is_too_large_is_shown() -> None:
    with pytest.raises(InvalidMessageValue, match=str(2**63)):
        check({"n": 2**63})


@pytest.mark.parametrize("text", ["\ud800", "abc\udfff", "\udcff" * 1000, Text("\ud800"), mark_safe("\ud800")])
def test_lone_surrogates_are_refused(text: str) -> None:
    with pytest.raises(InvalidMessageValue, match=r'^message\["t"\]\[0\]: .*surrogate') as caught:
        check({"t": [text]})
    str(caught.value).encode()
    with pytest.raises(InvalidMessageValue, match=r'^a key of message\["t"\]: .*surrogate') as caught:
        check({"t": {text: 1}})
    str(caught.value).encode()


def test_depth() -> None:
    assert check(nested(100)) is True
    for levels in (101, 102, 10_000):
        with pytest.raises(InvalidMessageValue, match=r'^message\["a"\].*more than 100 levels') as caught:
            check(nested(levels))
        assert len(str(caught.value)) < 500


def test_depth_of_a_copy() -> None:
    message = nested(99)
    message = {"a": (message,)}
    message["a"] = (nested(98),)
    assert check(message) is False
    assert same(plain(message), {"a": [nested(98)]})
    with pytest.raises(InvalidMessageValue, match="more than 100 levels"):
        check({"a": (nested(99),)})


def test_cycles_are_too_deep() -> None:
    message: dict[str, Any] = {}
    message["again"] = [message, message]
    with pytest.raises(InvalidMessageValue, match="is something inside itself"):
        check(message)
    items: list[Any] = []
    items.append((items,))
    with pytest.raises(InvalidMessageValue, match="is something inside itself"):
        check({"a": items})


WRONG = st.sampled_from([object(), {1}, 2**63, -(2**63) - 1, "\ud800", {1: 1}, (0, {2}), lazystr("x"), 1j])


@given(MESSAGES, st.data())
def test_one_wrong_value_anywhere_is_found_and_explained(message: dict[str, Any], data: st.DataObject) -> None:
    where: Any = message
    while (deeper := [v for v in values(where) if isinstance(v, (dict, list))]) and data.draw(st.booleans()):
        where = data.draw(st.sampled_from(deeper))
    wrong = data.draw(WRONG)
    if isinstance(where, dict):
        where["wrong"] = wrong
    else:
        where.insert(data.draw(st.integers(0, len(where))), wrong)
    with pytest.raises((InvalidMessageType, InvalidMessageValue), match=r"^(a key of )?message"):
        check(message)


def values(container: Any) -> list[Any]:
    return list(container.values()) if isinstance(container, dict) else container


class MultiDict(dict[str, Any]):
    """As werkzeug's: says the first of several values."""

    def items(self) -> Any:
        return [(key, values[0]) for key, values in super().items()]


SEVERAL = [QueryDict("a=1&a=2"), QueryDict("a=1"), MultiValueDict({"a": [{"b": 1}, 2]}), MultiDict(a=[1, 2])]


@pytest.mark.parametrize("several", SEVERAL)
def test_dicts_of_which_one_value_of_several_would_be_sent(several: Any) -> None:
    """Refused, with the place and the remedy, also where there happens to be one value."""
    for message, path in ((several, "message"), ({"x": [{"y": several}]}, 'message["x"][0]["y"]')):
        with pytest.raises(InvalidMessageType) as caught:
            check(message)
        text = str(caught.value)
        assert text.startswith(f"{path}: ")
        assert "dict(value.lists())" in text
        assert type(several).__name__ in text


@pytest.mark.parametrize("held", [OrderedDict(a=[1]), defaultdict(list, {"a": [1]}), Counter("a"), QueryDict("")])
def test_other_kinds_of_dicts(held: Any) -> None:
    assert check({"x": held}) is False
    assert plain({"x": held}) == {"x": dict(held)}
