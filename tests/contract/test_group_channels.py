"""Who is in a group, how many are, and the end of all memberships."""

from __future__ import annotations

import asyncio
import time

import pytest

from hybrid_layer.exceptions import InvalidName
from tests.contract.configurations import LayerMaker
from tests.contract.tools import A_NORMAL_CHANNEL, assert_silent, cancel, members, receive, receive_numbers
from tests.support.probe import probe
from tests.support.waiting import block, outlive, receiving, turns, wait_until


async def test_the_members(make_layer: LayerMaker) -> None:
    """Those of two layer objects, and a normal channel."""
    layer, other = make_layer(), make_layer()
    assert "group_channels" in layer.extensions
    assert (await layer.group_channels("group"), await layer.group_count("group")) == ([], 0)
    channels = [*await members(layer, 3), *await members(other, 2), A_NORMAL_CHANNEL]
    await layer.group_add("group", A_NORMAL_CHANNEL)
    await layer.group_add("other", channels[0])
    for each in (layer, other, make_layer()):
        assert await each.group_channels("group") == sorted(channels)
        assert await each.group_count("group") == 6
    await layer.group_discard("group", channels[1])
    await other.group_add("group", channels[0])  # another process's, which is a member already
    assert await layer.group_channels("group") == sorted({*channels} - {channels[1]})
    assert await layer.group_channels("other") == [channels[0]]
    with pytest.raises(InvalidName):
        await layer.group_channels("a b")


async def test_clear(make_layer: LayerMaker) -> None:
    layer, other = make_layer(), make_layer()
    channels = [*await members(layer, 2), *await members(other, 2), A_NORMAL_CHANNEL]
    await layer.group_add("group", A_NORMAL_CHANNEL)
    await layer.group_add("other", channels[0])
    await layer.group_send("group", {"n": 1})
    assert await layer.group_clear("group") == 5
    assert await layer.group_clear("group") == await layer.group_clear("nobody") == 0
    assert await other.group_channels("group") == []
    await other.group_send("group", {"n": 2})
    await layer.group_add("group", channels[0])
    await other.group_send("group", {"n": 3})
    assert await receive_numbers(layer, channels[0], 2) == [1, 3]
    for each, channel in ((layer, channels[1]), (other, channels[2]), (layer, A_NORMAL_CHANNEL)):
        assert await receive_numbers(each, channel, 1) == [1]
        await assert_silent(each, channel, 0.05)
    assert await layer.group_channels("group") == [channels[0]]
    assert await layer.group_channels("other") == [channels[0]]


@pytest.mark.configurations("pubsub-1", "hybrid-pubsub-3", "postgres-pubsub-1", "memory-pubsub")
async def test_clear_before_the_owner_has_heard_of_a_membership(make_layer: LayerMaker) -> None:
    """Another process has added its channel, and it hears of that later than of the end."""
    layer, other = make_layer(), make_layer()
    channel = await layer.new_channel()
    (waiting,) = await receiving(layer, channel)
    here = asyncio.get_running_loop()
    await wait_until(lambda: probe(layer).listens_in is here, "this loop reads what is published for the process")

    async def add_and_clear() -> int:
        await other.group_add("group", channel)
        return await layer.group_clear("group")

    clearing = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(add_and_clear())))
    await turns()
    block(time.monotonic() + 0.2)  # the loop is busy, until both wait for it
    assert await clearing == 1
    await layer.group_send("group", {"n": 1})
    await layer.send(channel, {"n": 2})
    assert (await waiting)["n"] == 2
    assert await layer.group_channels("group") == []


@pytest.mark.one_loop
async def test_memberships_that_have_ended(make_layer: LayerMaker) -> None:
    layer = make_layer(group_expiry=0.5)
    lasting = make_layer(group_expiry=60)
    await members(layer, 2)
    channels = await members(lasting, 1)
    await outlive(0.5)
    assert await layer.group_channels("group") == channels
    assert await layer.group_clear("group") == 1


async def test_many_members(make_layer: LayerMaker) -> None:
    """Longer names than fit into a first buffer, more than the servers' scripts keep sorted."""
    layer = make_layer()
    prefix = "a.rather.long.prefix.of.the.names"
    channels = [await layer.new_channel(prefix) for _ in range(150)]
    await asyncio.gather(*(layer.group_add("group", channel) for channel in channels))
    await layer.group_send("group", {"n": 1})
    assert await layer.group_channels("group") == sorted(channels)
    assert await layer.group_clear("group") == 150
    assert await layer.group_count("group") == 0


async def test_in_other_loops(make_layer: LayerMaker) -> None:
    """A loop for each call, as sync code makes them, while consumers wait here; several callers at once."""
    layer = make_layer()
    channels = await members(layer, 2)
    waiting = await receiving(layer, *channels)
    in_threads = [asyncio.to_thread(lambda: asyncio.run(layer.group_channels("group"))) for _ in range(3)]
    here = [layer.group_channels("group") for _ in range(3)]
    assert await asyncio.gather(*in_threads, *here) == [sorted(channels)] * 6
    await layer.group_send("group", {"n": 1})
    assert [message["n"] for message in await asyncio.gather(*waiting)] == [1, 1]


async def test_cancelled_callers_and_a_flush(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channels = await members(layer, 2)
    for _ in range(5):
        asking = asyncio.create_task(layer.group_channels("group"))
        await turns()
        await cancel(asking)
    assert await layer.group_channels("group") == sorted(channels)
    asking = asyncio.create_task(layer.group_channels("group"))
    await turns()
    await layer.flush()
    assert set(await asking) <= {*channels}

    async def is_empty() -> bool:
        return await layer.group_count("group") == 0

    await wait_until(is_empty, "the flush has ended all memberships")
    await layer.group_add("group", channels[0])
    await layer.group_send("group", {"n": 2})
    assert (await receive(layer, channels[0]))["n"] == 2
