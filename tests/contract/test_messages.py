"""What a message may hold, what arrives of it, and what is refused before anything is stored."""

from __future__ import annotations

import math
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from datetime import datetime
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any

import pytest
from django.db.models import TextChoices
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe

from hybrid_layer.exceptions import HybridLayerError
from tests.contract.configurations import LayerMaker
from tests.contract.tools import assert_silent, counted, new_channel, receive

# Checks and encoding come before any transport: one loop and each path are enough.
pytestmark = [pytest.mark.configurations("each-path"), pytest.mark.one_loop]

CODECS: dict[str, dict[str, Any]] = {
    "msgpack": {},
    "json": {"serializer_format": "json"},
    "msgpack-encrypted": {"symmetric_encryption_keys": ["a secret"]},
    "json-encrypted": {"serializer_format": "json", "symmetric_encryption_keys": ["a secret", b"an old one"]},
}
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
kinds = pytest.mark.parametrize("kind", ["normal", "specific"])

EVERYTHING: dict[str, Any] = {
    "type": "every.type",
    "bytes": b"\x00\xff\xfe bytes",
    "no bytes": b"",
    "str": "caf\u00e9 \u4e16\u754c \U0001f600 \x00 \u2028",
    "int": [0, 1, -1, 255, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63)],
    "float": [0.5, -1e300, 1e-300, 0.1, 3.0, -0.0],
    "bool": [True, False],
    "none": None,
    "list": [[], [[]], [1, "a", b"b", None, [2.5, {"x": []}]]],
    "dict": {"": {}, "a key with \u00fc and \x00": {"deeper": {"still": [b"deep"]}}},
}

# What serializers are known to reserve, and what our own JSON format might seem to reserve.
LOOKS_RESERVED: dict[str, Any] = {
    "__asgi_channel__": "x",
    "__asgi_group__": ["y"],
    "__bytes__": "AAAA",
    "__type__": {"__bytes__": True},
    "\x00b": "\x00bAAAA",
    "s": ["\x00", "\x00s", "\x00bAAAA", "\x00sx", "\x00b", "b:AAAA", "\\u0000bAAAA"],
    "\x00": {"\x00": b"\x00"},
}


def of_same_types(one: Any, other: Any) -> bool:
    """Equal, and made of the same built-in types all the way down (True == 1 == 1.0 to Python)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(of_same_types(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(of_same_types, one, other))
    return bool(one == other)


async def through(layer: Any, kind: str, message: Any) -> Any:
    """`message` as a channel delivers it."""
    channel = await new_channel(layer, kind)
    await layer.send(channel, message)
    return await receive(layer, channel)


@codecs
@kinds
@pytest.mark.parametrize("message", [EVERYTHING, LOOKS_RESERVED, {}], ids=["every type", "reserved words", "empty"])
async def test_arrives_as_it_was_sent(make_layer: LayerMaker, codec: dict[str, Any], kind: str, message: Any) -> None:
    assert of_same_types(await through(make_layer(**codec), kind, message), message)


@codecs
async def test_arrives_as_it_was_sent_to_a_group(make_layer: LayerMaker, codec: dict[str, Any]) -> None:
    layer = make_layer(**codec)
    channel = await layer.new_channel()
    for member in (channel, "a.normal.channel"):
        await layer.group_add("group", member)
    for message in (EVERYTHING, LOOKS_RESERVED, {}):
        await layer.group_send("group", message)
        for member in (channel, "a.normal.channel"):
            assert of_same_types(await receive(layer, member), message)


@codecs
async def test_not_a_number_and_infinities(make_layer: LayerMaker, codec: dict[str, Any]) -> None:
    arrived = await through(make_layer(**codec), "normal", {"x": [math.nan, math.inf, -math.inf]})
    assert math.isnan(arrived["x"][0])
    assert arrived["x"][1:] == [math.inf, -math.inf]


@codecs
@pytest.mark.one_loop
async def test_subclasses_arrive_as_the_base_type(make_layer: LayerMaker, codec: dict[str, Any]) -> None:
    class Colour(TextChoices):
        RED = "red", "Red"

    class Level(IntEnum):
        HIGH = 3

    class Name(str):
        pass

    class Ratio(float):
        pass

    class Blob(bytes):
        pass

    class Items(list[Any]):
        pass

    Point = namedtuple("Point", "x y")
    sent = OrderedDict(
        safe=mark_safe("<b>"),
        choice=Colour.RED,
        level=Level.HIGH,
        name=Name("n"),
        ratio=Ratio(0.5),
        blob=Blob(b"b"),
        items=Items([1]),
        point=Point(1, 2),
        tuple=(1, ("a", ())),
        ordered=OrderedDict(a=1),
        default=defaultdict(list, a=[1]),
        bytearray=bytearray(b"\x00a"),
        memoryview=memoryview(b"\xffb"),
    )
    sent[Name("key")] = {Colour.RED: 1}
    expected = {
        "safe": "<b>",
        "choice": "red",
        "level": 3,
        "name": "n",
        "ratio": 0.5,
        "blob": b"b",
        "items": [1],
        "point": [1, 2],
        "tuple": [1, ["a", []]],
        "ordered": {"a": 1},
        "default": {"a": [1]},
        "bytearray": b"\x00a",
        "memoryview": b"\xffb",
        "key": {"red": 1},
    }
    arrived = await through(make_layer(**codec), "normal", sent)
    assert of_same_types(arrived, expected)
    assert all(type(key) is str for key in [*arrived, *arrived["key"]])


class Plain(Enum):
    A = "a"


CYCLE: dict[str, Any] = {}
CYCLE["again"] = [CYCLE]

REFUSED: dict[str, tuple[Any, str]] = {
    "datetime": ({"user": {"born": datetime(2000, 1, 1)}}, 'message["user"]["born"]'),
    "uuid in list": ({"ids": [1, uuid.uuid4()]}, 'message["ids"][1]'),
    "decimal": ({"price": Decimal("1.5")}, 'message["price"]'),
    "set": ({"tags": {"a"}}, 'message["tags"]'),
    "complex": ({"z": 1j}, 'message["z"]'),
    "object": ({"o": object()}, 'message["o"]'),
    "class": ({"o": dict}, 'message["o"]'),
    "enum of no base type": ({"e": Plain.A}, 'message["e"]'),
    "lazy string": ({"title": lazystr("lazy")}, 'message["title"]'),
    "mapping that is no dict": ({"m": MappingProxyType({"a": 1})}, 'message["m"]'),
    "generator": ({"g": (n for n in range(3))}, 'message["g"]'),
    "int key": ({"seats": {7: "Ann"}}, 'message["seats"]'),
    "bytes key": ({"d": {b"k": 1}}, 'message["d"]'),
    "None key": ({"d": [{None: 1}]}, 'message["d"][0]'),
    "int key on top": ({1: "x"}, "message"),
    "int above 64 bits": ({"n": {"id": 2**63}}, 'message["n"]["id"]'),
    "int below 64 bits": ({"n": [-(2**63) - 1]}, 'message["n"][0]'),
    "very large int": ({"n": 10**400}, 'message["n"]'),
    "lone surrogate": ({"name": "\ud800"}, 'message["name"]'),
    "cycle": (CYCLE, 'message["again"][0]'),
    "tuple inside": ({"t": (1, {"x": object()})}, 'message["t"][1]["x"]'),
}


@pytest.mark.one_loop
@pytest.mark.configurations("each-path")
@pytest.mark.parametrize("codec", [CODECS["msgpack"], CODECS["json"]], ids=["msgpack", "json"])
@pytest.mark.parametrize(("message", "path"), REFUSED.values(), ids=REFUSED.keys())
async def test_refused_with_its_path(make_layer: LayerMaker, codec: dict[str, Any], message: Any, path: str) -> None:
    layer = make_layer(**codec)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    for call in (layer.send(channel, message), layer.group_send("group", message)):
        with pytest.raises((TypeError, ValueError)) as caught:
            await call
        assert isinstance(caught.value, HybridLayerError)
        assert path in str(caught.value)
    await layer.send(channel, {"n": "the next"})
    assert await receive(layer, channel) == {"n": "the next"}


@pytest.mark.one_loop
async def test_refusal_names_the_type(make_layer: LayerMaker) -> None:
    with pytest.raises(TypeError, match=r'message\["user"\]\["born"\].*datetime'):
        await make_layer().send("channel", {"user": {"born": datetime(2000, 1, 1)}})


@pytest.mark.one_loop
@pytest.mark.parametrize("message", [None, [], "text", b"bytes", 5, [("a", 1)], MappingProxyType({"a": 1}), object()])
async def test_a_message_is_a_dict(make_layer: LayerMaker, message: Any) -> None:
    layer = make_layer()
    for call in (layer.send("channel", message), layer.group_send("group", message)):
        with pytest.raises(TypeError, match=type(message).__name__) as caught:
            await call
        assert isinstance(caught.value, HybridLayerError)
    assert await counted(layer, "sent") == 0


def nested(levels: int, inner: Any) -> dict[str, Any]:
    """A message whose containers are `levels` deep, itself counted."""
    value = inner
    for level in range(levels - 1):
        value = [value] if level % 2 else {"a": value}
    return {"a": value}


@codecs
@pytest.mark.one_loop
async def test_depth_is_bounded(make_layer: LayerMaker, codec: dict[str, Any]) -> None:
    layer = make_layer(**codec)
    deep = nested(99, "x")
    assert await through(layer, "normal", deep) == deep
    for levels in (102, 1000, 100_000):
        with pytest.raises(ValueError, match="100") as caught:
            await layer.send("channel", nested(levels, "x"))
        assert isinstance(caught.value, HybridLayerError)
        assert len(str(caught.value)) < 5000


async def test_one_refused_member_of_many_leaves_no_trace(make_layer: LayerMaker) -> None:
    layer = make_layer()
    with pytest.raises(TypeError):
        await layer.send("channel", {"good": "x" * 1000, "bad": object()})
    await assert_silent(layer, "channel")
    assert await counted(layer, "sent") == 0
