"""Several messages in one call: what is stored, in which order, and what errors say of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import InvalidMessageType, InvalidName, MessageTooLarge
from tests.contract.configurations import LayerMaker
from tests.contract.tools import A_NORMAL_CHANNEL, assert_silent, cancel, counted, new_channel, receive, receive_numbers
from tests.support.waiting import at_rest, outlive, turns

KINDS = pytest.mark.parametrize("kind", ["normal", "specific"])


def numbers(*args: int, **fields: Any) -> list[dict[str, Any]]:
    """A message for each number of a range."""
    return [{"n": n, **fields} for n in range(*args)]


@KINDS
async def test_all_are_stored_in_order(make_layer: LayerMaker, kind: str) -> None:
    """Small ones, more than go in one step, and large ones among them."""
    layer = make_layer(capacity=1000)
    channel = await new_channel(layer, kind)
    waiting = asyncio.create_task(receive(layer, channel))
    await at_rest(layer, channel)
    before = await counted(layer, "sent")
    await layer.send(channel, {"n": 0})
    await layer.send_multiple(channel, numbers(1, 250))
    await layer.send_multiple(channel, [])
    await layer.send_multiple(channel, iter([*numbers(250, 253, x="x" * 300_000), *numbers(253, 256)]))
    await layer.send(channel, {"n": 256})
    assert (await waiting)["n"] == 0
    assert await receive_numbers(layer, channel, 256) == list(range(1, 257))
    assert await counted(layer, "sent") - before == 257


async def test_the_first_ones_that_fit_are_stored(make_layer: LayerMaker, bounded_kind: str) -> None:
    layer = make_layer(capacity=5)
    channel = await new_channel(layer, bounded_kind)
    await layer.send(channel, {"n": 0})
    with pytest.raises(ChannelFull, match="capacity") as caught:
        await layer.send_multiple(channel, numbers(1, 10))
    assert caught.value.stored == 4
    with pytest.raises(ChannelFull) as caught:
        await layer.send_multiple(channel, numbers(20, 22))
    assert caught.value.stored == 0
    assert await counted(layer, "full") == 2
    assert await receive_numbers(layer, channel, 5) == [0, 1, 2, 3, 4]
    await layer.send_multiple(channel, numbers(30, 35))
    assert await receive_numbers(layer, channel, 5) == list(range(30, 35))
    await assert_silent(layer, channel, 0.05)


async def test_expired_messages_make_room_for_several(make_layer: LayerMaker, bounded_kind: str) -> None:
    layer = make_layer(capacity=3, expiry=0.2)
    channel = await new_channel(layer, bounded_kind)
    await layer.send_multiple(channel, numbers(3))
    await outlive(0.2)
    await layer.send_multiple(channel, numbers(3, 6))
    assert await receive_numbers(layer, channel, 3) == [3, 4, 5]


@KINDS
async def test_one_wrong_message_stores_none(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(max_message_size=1000)
    channel = await new_channel(layer, kind)
    await layer.group_add("group", channel)
    for call, name in ((layer.send_multiple, channel), (layer.group_send_multiple, "group")):
        with pytest.raises(InvalidMessageType):
            await call(name, [{"n": 1}, {"n": object()}])
        with pytest.raises(MessageTooLarge):
            await call(name, [{"n": 1}, {"n": "x" * 1000}])
        with pytest.raises(InvalidMessageType):
            await call(name, {"n": 1})
        with pytest.raises(InvalidName):
            await call("a b", [{"n": 1}])
    await assert_silent(layer, channel, 0.05)


async def test_each_waiting_reader_gets_one(make_layer: LayerMaker) -> None:
    layer = make_layer()
    waiting = [asyncio.create_task(receive(layer, A_NORMAL_CHANNEL)) for _ in range(5)]
    await at_rest(layer, A_NORMAL_CHANNEL)
    await layer.send_multiple(A_NORMAL_CHANNEL, numbers(5))
    assert sorted([message["n"] for message in await asyncio.gather(*waiting)]) == list(range(5))


async def test_several_to_a_group(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=500)
    members = [*[await layer.new_channel() for _ in range(3)], A_NORMAL_CHANNEL]
    for member in members:
        await layer.group_add("group", member)
    await layer.group_send_multiple("group", numbers(150))
    await layer.group_send("group", {"n": 150})
    await layer.group_send_multiple("group", [])
    await layer.group_send_multiple("group", iter(numbers(151, 153, x="x" * 300_000)))
    await layer.group_send_multiple("nobody", numbers(3))
    for member in members:
        assert await receive_numbers(layer, member, 153) == list(range(153))
    await layer.group_discard("group", members[0])
    await layer.group_send_multiple("group", numbers(2))
    await assert_silent(layer, members[0], 0.05)
    assert await receive_numbers(layer, members[1], 2) == [0, 1]


async def test_several_to_a_group_with_a_full_member(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=50, channel_capacity={A_NORMAL_CHANNEL: 3})
    channel = await layer.new_channel()
    for member in (channel, A_NORMAL_CHANNEL):
        await layer.group_add("group", member)
    await layer.group_send_multiple("group", numbers(10))
    assert await receive_numbers(layer, channel, 10) == list(range(10))
    assert await receive_numbers(layer, A_NORMAL_CHANNEL, 3) == [0, 1, 2]
    await assert_silent(layer, A_NORMAL_CHANNEL, 0.05)


async def test_a_cancelled_sender_leaves_the_first_ones(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=10_000)
    sending = asyncio.create_task(layer.send_multiple(A_NORMAL_CHANNEL, numbers(2000)))
    await turns()
    await cancel(sending)
    await layer.send(A_NORMAL_CHANNEL, {"n": -1})
    seen = []
    while seen[-1:] != [-1]:
        seen += await receive_numbers(layer, A_NORMAL_CHANNEL, 1)
    assert seen[:-1] == list(range(len(seen) - 1))


@pytest.mark.configurations("ipc")
async def test_a_call_that_finds_no_room_counts_once(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=3)
    with pytest.raises(ChannelFull):
        await layer.send_multiple("jobs", numbers(10))
    assert (await layer.channel_statistics("jobs"))["channel_full_count"] == 1
    assert await counted(layer, "full") == 1


@pytest.mark.configurations("local")
async def test_memory_full_for_several(make_layer: LayerMaker) -> None:
    layer = make_layer(message_memory=2 * 1024 * 1024, capacity=10_000)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    with pytest.raises(ChannelFull, match="message_memory") as caught:
        await layer.send_multiple("jobs", numbers(500, x="x" * 10_000))
    stored = caught.value.stored
    assert 100 < stored < 500
    await layer.group_send_multiple("group", numbers(5, x="x" * 100_000))
    assert await counted(layer, "memory") >= 2
    assert await receive_numbers(layer, "jobs", stored) == list(range(stored))
    await layer.group_send_multiple("group", numbers(5))
    assert (await receive_numbers(layer, channel, 5))[-1] == 4
