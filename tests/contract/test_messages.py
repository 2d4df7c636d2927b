"""What a message may hold, what arrives of it, and what is refused before anything is stored."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pytest

from hybrid_layer.exceptions import HybridLayerError
from tests.contract.configurations import LayerMaker
from tests.contract.tools import counted, kinds, new_channel, receive
from tests.unit.samples import CONVERTED, nested, same

# Checks and encoding come before any transport: one loop and each path are enough.
pytestmark = [pytest.mark.configurations("each-path"), pytest.mark.one_loop]

CODECS: dict[str, dict[str, Any]] = {
    "msgpack": {},
    "json": {"serializer_format": "json"},
    "msgpack-encrypted": {"symmetric_encryption_keys": ["a secret"]},
    "json-encrypted": {"serializer_format": "json", "symmetric_encryption_keys": ["a secret", b"an old one"]},
}
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())

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


async def through(layer: Any, kind: str, message: Any) -> Any:
    """`message` as a channel delivers it."""
    channel = await new_channel(layer, kind)
    await layer.send(channel, message)
    return await receive(layer, channel)


@codecs
@kinds
@pytest.mark.parametrize("message", [EVERYTHING, LOOKS_RESERVED, {}], ids=["every type", "reserved words", "empty"])
async def test_arrives_as_it_was_sent(make_layer: LayerMaker, codec: dict[str, Any], kind: str, message: Any) -> None:
    assert same(await through(make_layer(**codec), kind, message), message)


@codecs
async def test_other_types_arrive_as_base_types(make_layer: LayerMaker, codec: dict[str, Any]) -> None:
    message = OrderedDict({str(n): [sent] for n, (sent, _) in enumerate(CONVERTED)})
    arrived = await through(make_layer(**codec), "normal", message)
    assert same(arrived, {str(n): [arrives] for n, (_, arrives) in enumerate(CONVERTED)})


@codecs
async def test_arrives_as_it_was_sent_to_a_group(make_layer: LayerMaker, codec: dict[str, Any]) -> None:
    layer = make_layer(**codec)
    channel = await layer.new_channel()
    for member in (channel, "a.normal.channel"):
        await layer.group_add("group", member)
    for message in (EVERYTHING, LOOKS_RESERVED, {}):
        await layer.group_send("group", message)
        for member in (channel, "a.normal.channel"):
            assert same(await receive(layer, member), message)


REFUSED: dict[str, tuple[Any, str]] = {
    "type": ({"user": {"born": datetime(2000, 1, 1)}}, 'message["user"]["born"]'),
    "key": ({"seats": {7: "Ann"}}, 'message["seats"]'),
    "int": ({"n": {"id": 2**63}}, 'message["n"]["id"]'),
    "str": ({"names": ["\ud800"]}, 'message["names"][0]'),
    "depth": (nested(101), 'message["a"]'),
}
"""One of each kind: `tests/unit/test_messages.py` has the others."""


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
@pytest.mark.parametrize("message", [None, [], "text", b"bytes", 5, [("a", 1)], MappingProxyType({"a": 1}), object()])
async def test_a_message_is_a_dict(make_layer: LayerMaker, message: Any) -> None:
    layer = make_layer()
    for call in (layer.send("channel", message), layer.group_send("group", message)):
        with pytest.raises(TypeError, match=type(message).__name__) as caught:
            await call
        assert isinstance(caught.value, HybridLayerError)
    assert await counted(layer, "sent") == 0
