"""Groups: who is a member, who gets a message, and in which order. In one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import GroupMemoryFull, HybridLayerError
from tests.contract.configurations import LayerMaker
from tests.contract.tools import A_NORMAL_CHANNEL, assert_silent, counted, members, receive, receive_numbers
from tests.support.waiting import at_rest, outlive, until, wait_until


async def test_every_member_gets_a_message_once(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=500)
    channels = [*await members(layer, 60), A_NORMAL_CHANNEL]
    await layer.group_add("group", A_NORMAL_CHANNEL)
    for n in range(3):
        await layer.group_send("group", {"n": n})
    for channel in channels:
        assert await receive_numbers(layer, channel, 3) == [0, 1, 2]
    for channel in (channels[0], channels[30], A_NORMAL_CHANNEL):
        await assert_silent(layer, channel, 0.05)


async def test_waiting_members(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channels = await members(layer, 10)
    waiting = [asyncio.create_task(receive(layer, channel)) for channel in channels]
    await at_rest(layer, *channels)
    await layer.group_send("group", {"n": 1})
    assert [message["n"] for message in await asyncio.gather(*waiting)] == [1] * 10


async def test_adding_twice_is_once(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = (await members(layer, 1))[0]
    for member in (channel, channel, A_NORMAL_CHANNEL, A_NORMAL_CHANNEL):
        await layer.group_add("group", member)
    await layer.group_send("group", {"n": 1})
    await layer.group_send("group", {"n": 2})
    for member in (channel, A_NORMAL_CHANNEL):
        assert await receive_numbers(layer, member, 2) == [1, 2]
        await assert_silent(layer, member, 0.05)
        await layer.group_discard("group", member)
    await layer.group_send("group", {"n": 3})
    for member in (channel, A_NORMAL_CHANNEL):
        await assert_silent(layer, member, 0.05)


async def test_a_discarded_member_gets_nothing_more(make_layer: LayerMaker) -> None:
    layer = make_layer()
    one, two = await members(layer, 2)
    await layer.group_send("group", {"n": 1})
    await layer.group_discard("group", one)
    await layer.group_send("group", {"n": 2})
    await layer.send(one, {"n": "direct"})
    assert {(await receive(layer, one))["n"] for _ in range(2)} == {1, "direct"}
    assert await receive_numbers(layer, two, 2) == [1, 2]


async def test_what_is_unknown_is_fine(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = await layer.new_channel()
    await layer.group_discard("no.such.group", channel)
    await layer.group_discard("no.such.group", A_NORMAL_CHANNEL)
    await layer.group_send("no.such.group", {"n": 1})
    await members(layer, 1)
    await layer.group_discard("group", channel)
    await layer.group_discard("group", "specific.AAAAAAAAAA!1")
    await layer.send(channel, {"n": 2})
    assert (await receive(layer, channel))["n"] == 2


async def test_groups_are_apart(make_layer: LayerMaker) -> None:
    layer = make_layer()
    red, blue = (await members(layer, 1, "red"))[0], (await members(layer, 1, "blue"))[0]
    both = await layer.new_channel()
    await layer.group_add("red", both)
    await layer.group_add("blue", both)
    await layer.group_send("red", {"n": "red"})
    await layer.group_send("blue", {"n": "blue"})
    assert {(await receive(layer, both))["n"] for _ in range(2)} == {"red", "blue"}
    assert (await receive(layer, red))["n"] == "red"
    assert (await receive(layer, blue))["n"] == "blue"
    for channel in (red, blue, both):
        await assert_silent(layer, channel, 0.05)


async def test_a_group_and_a_channel_of_one_name_are_apart(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = (await members(layer, 1, "name"))[0]
    await layer.send("name", {"n": "to the channel"})
    await layer.group_send("name", {"n": "to the group"})
    assert (await receive(layer, "name"))["n"] == "to the channel"
    assert (await receive(layer, channel))["n"] == "to the group"


async def test_members_of_several_parts(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channels = [await layer.new_channel(prefix) for prefix in ("red", "blue", "red")]
    for channel in channels:
        await layer.group_add("group", channel)
    await layer.group_send("group", {"n": 1})
    for channel in channels:
        assert (await receive(layer, channel))["n"] == 1


async def test_a_member_at_capacity_misses_it_and_no_error_is_raised(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=5)
    specific = [await layer.new_channel("full")] if make_layer.configuration.is_bounded("specific") else []
    for channel in (*specific, A_NORMAL_CHANNEL):
        roomy = await layer.new_channel("roomy")
        await layer.group_add("group", channel)
        for n in range(5):
            if make_layer.configuration.is_one_queue or channel == A_NORMAL_CHANNEL:
                await layer.send(channel, {"n": n})
            else:  # with several servers, the group's has an inbox of its own
                await layer.group_send("group", {"n": n})
        await layer.group_add("group", roomy)
        before = await counted(layer, "full")
        for n in range(3):
            await layer.group_send("group", {"n": n})
        assert await receive_numbers(layer, roomy, 3) == [0, 1, 2]

        async def all_counted(expected: int = before + 3) -> bool:
            return await counted(layer, "full") >= expected

        await wait_until(
            all_counted, "all are counted that did not fit"
        )  # the hybrid delivers a normal channel's message through the machine's inbox
        assert await receive_numbers(layer, channel, 5) == [0, 1, 2, 3, 4]
        await assert_silent(layer, channel, 0.05)
        assert await counted(layer, "full") - before == 3
        await layer.group_discard("group", channel)
        await layer.group_discard("group", roomy)


async def test_a_normal_channel_member_has_one_reader(make_layer: LayerMaker) -> None:
    layer = make_layer()
    await layer.group_add("group", A_NORMAL_CHANNEL)
    first, second = (asyncio.create_task(receive(layer, A_NORMAL_CHANNEL)) for _ in range(2))
    await at_rest(layer, A_NORMAL_CHANNEL)
    await layer.group_send("group", {"n": 1})
    assert await first == {"n": 1}
    await layer.group_send("group", {"n": 2})
    assert await second == {"n": 2}


async def test_direct_and_group_messages_keep_their_order(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channels = await members(layer, 3)
    for n in range(0, 90, 3):
        await layer.send(channels[0], {"n": n})
        await layer.group_send("group", {"n": n + 1})
        await layer.send(channels[0], {"n": n + 2})
    assert_in_order(make_layer, await receive_numbers(layer, channels[0], 90), lambda n: n % 3 == 1)
    assert await receive_numbers(layer, channels[1], 30) == list(range(1, 90, 3))


async def test_direct_and_group_messages_keep_their_order_while_read(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = (await members(layer, 1))[0]
    seen: list[int] = []

    async def read() -> None:
        while len(seen) < 200:
            seen.append((await receive(layer, channel))["n"])

    reading = asyncio.create_task(read())
    for n in range(200):
        await (layer.send(channel, {"n": n}) if n % 3 else layer.group_send("group", {"n": n}))
        if n % 40 == 0:
            await wait_until(lambda n=n: len(seen) > n, "the reader has caught up")
    await reading
    assert_in_order(make_layer, seen, lambda n: n % 3 == 0)


def assert_in_order(make_layer: LayerMaker, seen: list[int], is_to_group: Callable[[int], bool]) -> None:
    """All numbers have come: in order, or with several servers, those of each kind in order."""
    if make_layer.configuration.is_one_queue:
        assert seen == list(range(len(seen)))
    for kind in (True, False):
        assert [n for n in seen if is_to_group(n) is kind] == [n for n in range(len(seen)) if is_to_group(n) is kind]


async def test_who_joins_later_does_not_get_an_earlier_message(make_layer: LayerMaker) -> None:
    layer = make_layer()
    first = (await members(layer, 1))[0]
    later = await layer.new_channel()
    await layer.group_send("group", {"n": 1})
    await layer.group_add("group", later)
    await layer.group_send("group", {"n": 2})
    assert await receive_numbers(layer, later, 1) == [2]
    assert await receive_numbers(layer, first, 2) == [1, 2]


async def test_who_leaves_later_still_gets_an_earlier_message(make_layer: LayerMaker) -> None:
    layer = make_layer()
    stays, leaves = await members(layer, 2)
    await layer.group_send("group", {"n": 1})
    await layer.group_discard("group", leaves)
    await layer.group_send("group", {"n": 2})
    assert await receive_numbers(layer, leaves, 1) == [1]
    assert await receive_numbers(layer, stays, 2) == [1, 2]
    await assert_silent(layer, leaves, 0.05)


async def test_who_leaves_and_comes_back_misses_what_came_between(make_layer: LayerMaker) -> None:
    layer = make_layer()
    stays, other = await members(layer, 2)
    for n in range(6):
        await layer.group_send("group", {"n": n})
        await (layer.group_add if n % 2 else layer.group_discard)("group", other)
    await layer.group_send("group", {"n": 6})
    assert await receive_numbers(layer, stays, 7) == list(range(7))
    assert await receive_numbers(layer, other, 4) == [0, 2, 4, 6]
    await assert_silent(layer, other, 0.05)


async def test_a_normal_channel_that_joins_later(make_layer: LayerMaker) -> None:
    layer = make_layer()
    await layer.group_send("group", {"n": 1})
    await layer.group_add("group", A_NORMAL_CHANNEL)
    await layer.group_send("group", {"n": 2})
    await layer.group_discard("group", A_NORMAL_CHANNEL)
    await layer.group_send("group", {"n": 3})
    assert await receive_numbers(layer, A_NORMAL_CHANNEL, 1) == [2]
    await assert_silent(layer, A_NORMAL_CHANNEL, 0.05)


@pytest.mark.one_loop
async def test_membership_ends_with_group_expiry_and_not_before(make_layer: LayerMaker) -> None:
    layer = make_layer(group_expiry=1.0)
    assert layer.group_expiry == 1.0
    channel, renewed = await members(layer, 2)
    await layer.group_add("group", A_NORMAL_CHANNEL)
    started = time.monotonic()
    await layer.group_send("group", {"n": 1})
    for member in (channel, renewed, A_NORMAL_CHANNEL):
        assert (await receive(layer, member))["n"] == 1
    await until(started + 0.6)
    await layer.group_add("group", renewed)
    await until(started + 1.1)
    await layer.group_send("group", {"n": 2})
    assert (await receive(layer, renewed))["n"] == 2
    for member in (channel, A_NORMAL_CHANNEL):
        await assert_silent(layer, member, 0.05)


@pytest.mark.one_loop
async def test_membership_outlives_message_expiry(make_layer: LayerMaker) -> None:
    layer = make_layer(expiry=0.4)
    channel = (await members(layer, 1))[0]
    waiting = asyncio.create_task(receive(layer, channel))
    await outlive(0.8)  # twice
    await layer.group_send("group", {"n": 1})
    assert (await waiting)["n"] == 1


@pytest.mark.configurations("local")
async def test_group_memory_full(make_layer: LayerMaker) -> None:
    layer = make_layer(group_memory=1024 * 1024)
    # Memory is reserved at the machine's first use of a prefix; so this test's prefix must be its own, which it is.
    added: list[int] = []

    async def add_many() -> None:
        for n in range(200_000):
            await layer.group_add(f"a.rather.long.name.of.a.group.{n}", "a.rather.long.name.of.a.channel")
            added.append(n)

    with pytest.raises(GroupMemoryFull, match="group_memory") as caught:
        await add_many()
    assert isinstance(caught.value, HybridLayerError)
    assert len(added) > 1000
    await layer.send("channel", {"n": 1})
    assert (await receive(layer, "channel"))["n"] == 1
    await layer.group_send("a.rather.long.name.of.a.group.7", {"n": 7})
    assert (await receive(layer, "a.rather.long.name.of.a.channel"))["n"] == 7
    for n in added[:100]:
        await layer.group_discard(f"a.rather.long.name.of.a.group.{n}", "a.rather.long.name.of.a.channel")
    await layer.group_add("there.is.room.again", "channel")
    await layer.group_send("there.is.room.again", {"n": 8})
    assert (await receive(layer, "channel"))["n"] == 8


@pytest.mark.configurations("local")
async def test_message_memory_full_in_group_send_is_counted_and_no_error(make_layer: LayerMaker) -> None:
    layer = make_layer(message_memory=2 * 1024 * 1024, capacity=10_000)
    channel = (await members(layer, 1))[0]

    async def flood() -> None:
        for _ in range(1000):
            await layer.send(channel, {"n": "flood", "text": "x" * 30_000})

    sent = 0
    while not await counted(layer, "memory"):
        await layer.group_send("group", {"n": sent, "text": "x" * 30_000})
        sent += 1
        assert sent < 1000
    with pytest.raises(ChannelFull, match="message_memory"):
        await flood()
    assert sent > 20
    assert await receive_numbers(layer, channel, sent - 1) == list(range(sent - 1))
    await layer.group_send("group", {"n": "room again"})
    numbers = []
    while "room again" not in numbers:
        numbers += [(await receive(layer, channel))["n"]]
    assert set(numbers) <= {"flood", "room again"}
