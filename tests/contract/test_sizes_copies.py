"""How large a message may be, which code owns it, and what happens to an entry that cannot be read."""

from __future__ import annotations

import json
import logging
import re
import secrets
from typing import Any

import msgpack
import pytest

from hybrid_layer.exceptions import HybridLayerError, MessageTooLarge
from tests.contract.configurations import LayerMaker
from tests.contract.tools import assert_silent, counted, kinds, new_channel, receive

MIB = 1024 * 1024
encryption = pytest.mark.parametrize("keys", [None, ["a secret"]], ids=["plain", "encrypted"])


def one_mib_of_text() -> dict[str, Any]:
    frame = len(json.dumps({"type": "x", "text": ""}))
    return {"type": "x", "text": "t" * (MIB - frame)}


def one_mib_of_numbers() -> dict[str, Any]:
    """The worst case: 4 characters a number in compact JSON, 9 bytes in msgpack."""
    return {"type": "x", "numbers": [0.1] * ((MIB - 30) // 4)}


@kinds
@encryption
@pytest.mark.one_loop
@pytest.mark.parametrize("make", [one_mib_of_text, one_mib_of_numbers])
async def test_one_mib_of_json_passes(make_layer: LayerMaker, kind: str, keys: Any, make: Any) -> None:
    message = make()
    assert len(json.dumps(message, separators=(",", ":"))) <= MIB
    layer = make_layer(symmetric_encryption_keys=keys)
    channel = await new_channel(layer, kind)
    await layer.send(channel, message)
    assert await receive(layer, channel) == message


async def test_one_mib_of_json_passes_to_a_group(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channels = [await layer.new_channel() for _ in range(3)]
    for channel in channels:
        await layer.group_add("group", channel)
    message = one_mib_of_numbers()
    await layer.group_send("group", message)
    for channel in channels:
        assert await receive(layer, channel) == message


async def test_json_serializer_passes_one_mib(make_layer: LayerMaker) -> None:
    layer = make_layer(serializer_format="json")
    message = one_mib_of_text()
    await layer.send("channel", message)
    assert await receive(layer, "channel") == message


def packed(size: int) -> dict[str, Any]:
    """A message whose msgpack form has exactly `size` bytes."""
    message = {"x": b""}
    message["x"] = b"x" * (size - len(msgpack.packb({"x": b"x" * (size - 10)})) + size - 10)
    assert len(msgpack.packb(message)) == size
    return message


@encryption
async def test_limit_is_exact_and_before_encryption(make_layer: LayerMaker, keys: Any) -> None:
    layer = make_layer(max_message_size=2000, symmetric_encryption_keys=keys)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    for call in (layer.send(channel, packed(2000)), layer.group_send("group", packed(2000))):
        await call
        assert await receive(layer, channel) == packed(2000)
    for call in (layer.send(channel, packed(2001)), layer.group_send("group", packed(2001))):
        with pytest.raises(layer.MessageTooLarge):
            await call
    await assert_silent(layer, channel)


@pytest.mark.one_loop
async def test_too_large_names_size_and_limit(make_layer: LayerMaker) -> None:
    layer = make_layer()
    for call in (layer.send("channel", packed(4 * MIB + 1)), layer.group_send("group", packed(4 * MIB + 1))):
        with pytest.raises(MessageTooLarge) as caught:
            await call
        numbers = re.sub(r"(?<=\d)[,_](?=\d)", "", str(caught.value))
        assert str(4 * MIB + 1) in numbers
        assert str(4 * MIB) in numbers.replace(str(4 * MIB + 1), "")
        assert "max_message_size" in numbers
    assert await counted(layer, "sent") == 0
    await layer.send("channel", packed(4 * MIB))
    assert await receive(layer, "channel") == packed(4 * MIB)


async def test_too_large_is_the_layers_attribute(make_layer: LayerMaker) -> None:
    layer = make_layer(max_message_size=100)
    assert layer.MessageTooLarge is MessageTooLarge
    assert issubclass(MessageTooLarge, ValueError)
    assert issubclass(MessageTooLarge, HybridLayerError)
    with pytest.raises(layer.MessageTooLarge, match="channel"):
        await layer.send("the.channel", {"x": "y" * 100})


@kinds
async def test_senders_dict_is_its_own(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    message: dict[str, Any] = {"type": "x", "list": [1, {"a": 1}]}
    await layer.send(channel, message)
    assert message == {"type": "x", "list": [1, {"a": 1}]}
    message["list"][1]["a"] = "changed"
    message["more"] = 1
    received = await receive(layer, channel)
    assert received == {"type": "x", "list": [1, {"a": 1}]}
    received["list"].append("changed")
    assert message["list"] == [1, {"a": "changed"}]


async def test_each_group_member_has_its_own_copy(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channels = [await layer.new_channel() for _ in range(3)]
    for channel in channels:
        await layer.group_add("group", channel)
    message = {"list": [1]}
    await layer.group_send("group", message)
    message["list"].append("changed by the sender")
    for channel in channels:
        received = await receive(layer, channel)
        assert received == {"list": [1]}
        received["list"].append("changed by a receiver")


def undecodable_warnings(caplog: pytest.LogCaptureFixture, channel: str) -> list[logging.LogRecord]:
    records = [record for record in caplog.records if record.name.startswith("hybrid_layer")]
    return [record for record in records if record.levelno == logging.WARNING and channel in record.getMessage()]


MISFITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "other key": ({"symmetric_encryption_keys": ["theirs"]}, {"symmetric_encryption_keys": ["ours"]}),
    "not encrypted": ({}, {"symmetric_encryption_keys": ["ours"]}),
    "encrypted": ({"symmetric_encryption_keys": ["theirs"]}, {}),
    "other serializer": ({}, {"serializer_format": "json"}),
}


@kinds
@pytest.mark.parametrize(("theirs", "ours"), MISFITS.values(), ids=MISFITS.keys())
async def test_what_cannot_be_read_is_dropped_counted_and_warned_of_once(
    make_layer: LayerMaker, caplog: pytest.LogCaptureFixture, kind: str, theirs: Any, ours: Any
) -> None:
    sender, reader = make_layer(**theirs), make_layer(**ours)
    channel = f"jobs.{secrets.token_hex(4)}" if kind == "normal" else await reader.new_channel()
    for n in range(3):
        await sender.send(channel, {"type": "x", "n": n})
    await reader.send(channel, {"type": "x", "n": "readable"})
    assert (await receive(reader, channel))["n"] == "readable"
    assert await counted(reader, "undecodable") == 3
    assert await counted(reader, "received") in (1, 4)  # whether a dropped one counts as received does not matter
    assert len(undecodable_warnings(caplog, channel)) == 1


@kinds
async def test_keys_rotate(make_layer: LayerMaker, kind: str) -> None:
    old = make_layer(symmetric_encryption_keys=["old"])
    new = make_layer(symmetric_encryption_keys=["new", "old"])
    channel = await new_channel(new, kind)
    await old.send(channel, {"n": 1})
    await new.send(channel, {"n": 2})
    assert [(await receive(new, channel))["n"] for _ in range(2)] == [1, 2]
    # The first key encrypts: a layer with only the old one cannot read it.
    await new.send("channel", {"n": 3})
    await old.send("channel", {"n": 4})
    assert (await receive(old, "channel"))["n"] == 4
    assert await counted(old, "undecodable") == 1
