"""`flush()`, `close()` and `statistics()`."""

from __future__ import annotations

import asyncio
import os
import warnings
from typing import Any

import pytest

from tests.contract.configurations import LayerMaker
from tests.contract.tools import (
    assert_silent,
    cancel,
    kinds,
    new_channel,
    receive,
    receive_numbers,
    send_numbers,
)
from tests.support.probe import probe
from tests.support.waiting import any_moment, at_rest, block_until, receiving, turns, wait_until


async def test_flush_leaves_no_message_and_no_group(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=10)
    assert {"flush", "groups", "statistics"} <= set(layer.extensions)
    channels = ["one", "two", *[await layer.new_channel() for _ in range(3)]]
    for channel in channels:
        await layer.group_add("group", channel)
        await layer.send(channel, {"n": 1})
    await layer.group_send("group", {"n": 2})
    await layer.flush()
    await layer.group_send("group", {"n": 3})
    for channel in channels:
        await assert_silent(layer, channel, 0.05)
    for n in range(10):  # nothing takes up capacity either
        await layer.send("one", {"n": n})
    assert await receive_numbers(layer, "one", 10) == list(range(10))
    for channel in channels:
        await layer.send(channel, {"n": 4})
        assert (await receive(layer, channel))["n"] == 4
        await layer.group_add("group", channel)
    await layer.group_send("group", {"n": 5})
    for channel in channels:
        assert (await receive(layer, channel))["n"] == 5


async def test_flush_of_another_layer_of_the_prefix(make_layer: LayerMaker) -> None:
    layer, other = make_layer(), make_layer()
    awaited, buffered = await layer.new_channel(), await layer.new_channel()
    waiting = asyncio.create_task(receive(layer, awaited))
    await at_rest(layer, awaited)
    await layer.group_add("group", buffered)
    await layer.send(buffered, {"n": "taken in by the process before the flush"})
    await layer.send(awaited, {"n": 1})
    assert (await waiting)["n"] == 1
    await layer.send("normal", {"n": 1})
    await other.flush()
    await layer.group_send("group", {"n": 2})
    await assert_silent(layer, "normal", 0.05)
    await layer.send(buffered, {"n": 3})
    assert (await receive(layer, buffered))["n"] == 3
    await layer.group_add("group", buffered)
    await other.group_send("group", {"n": "a member again"})
    assert (await receive(layer, buffered))["n"] == "a member again"


@kinds
async def test_waiting_receivers_outlive_a_flush(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    waiting = [asyncio.create_task(receive(layer, channel)) for _ in range(3)]
    await at_rest(layer, channel)
    await layer.flush()
    assert not any(task.done() for task in waiting)
    await send_numbers(layer, channel, range(3))
    assert [message["n"] for message in await asyncio.gather(*waiting)] == [0, 1, 2]


async def test_flush_touches_no_other_prefix(make_layer: LayerMaker) -> None:
    layer = make_layer()
    near = [layer.prefix + "x", layer.prefix[:-1], layer.prefix + ":x", layer.prefix + "-", layer.prefix.upper()]
    others = [make_layer(prefix=prefix) for prefix in near]
    await layer.send("channel", {"n": "mine"})
    channels = []
    for other in others:
        channels.append(await other.new_channel())
        await other.send("channel", {"n": other.prefix})
        await other.group_add("group", channels[-1])
    await layer.flush()
    await assert_silent(layer, "channel")
    for other, channel in zip(others, channels, strict=True):
        assert (await receive(other, "channel"))["n"] == other.prefix
        await other.group_send("group", {"n": 1})
        assert (await receive(other, channel))["n"] == 1


async def test_prefixes_are_apart(make_layer: LayerMaker) -> None:
    layer, other = make_layer(), make_layer(prefix="another-" + make_layer.prefix)
    mine, theirs = await layer.new_channel(), await other.new_channel()
    await layer.group_add("group", mine)
    await other.group_add("group", theirs)
    await layer.send("channel", {"n": 1})
    await layer.group_send("group", {"n": 2})
    await other.send(mine, {"n": "astray"})
    await assert_silent(other, "channel", 0.05)
    await assert_silent(other, theirs, 0.05)
    assert (await receive(layer, "channel"))["n"] == 1
    assert (await receive(layer, mine))["n"] == 2


KEYS = {"sent", "received", "full", "expired", "dead", "slow", "memory", "damaged", "undecodable", "errors"}


async def test_statistics(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=3)
    assert await layer.statistics() == dict.fromkeys(KEYS, 0)
    channel = await layer.new_channel()
    await send_numbers(layer, "normal", range(3))
    await send_numbers(layer, channel, range(3))
    bounded = ["normal", channel] if make_layer.configuration.is_bounded("specific") else ["normal"]
    for name in bounded:
        with pytest.raises(layer.ChannelFull):
            await layer.send(name, {"n": "too many"})
    await receive_numbers(layer, "normal", 2)
    await receive_numbers(layer, channel, 1)
    statistics = await layer.statistics()
    assert all(type(key) is str and type(value) is int for key, value in statistics.items())
    assert statistics == {**dict.fromkeys(KEYS, 0), "sent": 6, "received": 3, "full": len(bounded)}


async def test_statistics_of_a_group_message(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channels = [await layer.new_channel() for _ in range(4)]
    for channel in channels:
        await layer.group_add("group", channel)
    await layer.group_send("group", {"n": 1})
    for channel in channels:
        await receive(layer, channel)
    statistics = await layer.statistics()
    assert statistics["received"] == 4
    assert statistics["sent"] >= 1
    assert not any(statistics[key] for key in KEYS - {"sent", "received"})


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def use(layer: Any) -> None:
    """Every call once."""
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.send("normal", {"n": 1})
    await layer.send(channel, {"n": 1})
    await layer.group_send("group", {"n": 2})
    assert (await receive(layer, "normal"))["n"] == 1
    assert sorted(await receive_numbers(layer, channel, 2)) == [1, 2]
    await layer.group_discard("group", channel)
    waiting = await receiving(layer, "normal", channel)
    for task in waiting:
        await cancel(task)


async def test_close_gives_everything_back_and_the_layer_goes_on(make_layer: LayerMaker) -> None:
    layer = make_layer()
    await layer.close()  # before any use, and twice
    await layer.close()
    await use(layer)
    await wait_until(lambda: probe(layer).reads_for_machine, "the machine's streams are read")
    await layer.close()
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            await use(layer)
            await layer.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    async def given_back() -> bool:  # a socket is closed a turn of the loop after its transport
        return descriptors() <= before

    await wait_until(given_back, "the descriptors are closed")


@kinds
async def test_nothing_is_lost_by_close(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    sent = 0
    received: list[int] = []
    for number in range(20):
        waiting = asyncio.create_task(layer.receive(channel))
        await any_moment(0.004)
        for _ in range(3):
            await layer.send(channel, {"n": sent})
            sent += 1
        waiting.cancel()
        await turns(number % 5)
        try:
            received.append((await waiting)["n"])
        except asyncio.CancelledError:
            assert waiting.cancelled()
        await layer.close()
        while len(received) < sent:
            received.append((await receive(layer, channel))["n"])
    assert received == list(range(sent))


@kinds
async def test_who_waits_outlives_close(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel, other = await new_channel(layer, kind), await new_channel(layer, "normal") + "-other"
    waiting = [asyncio.create_task(receive(layer, channel)) for _ in range(2)]
    await at_rest(layer, channel)
    for n in range(2):
        await layer.close()
        await layer.send(other, {"n": 0})  # uses what close() gave back
        assert (await receive(layer, other))["n"] == 0
        await layer.send(channel, {"n": n})
        assert (await waiting[n])["n"] == n
    await layer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_name_and_its_groups_outlive_close(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.close()
    await layer.group_send("group", {"n": 1})
    await layer.close()
    assert (await receive(layer, channel))["n"] == 1


def test_layers_of_many_loops_give_their_descriptors_back(make_layer: LayerMaker) -> None:
    layer = make_layer()
    asyncio.run(use(layer))  # without close(): the loop's end is enough
    block_until(lambda: probe(layer).reads_for_machine, "the machine's streams are read")
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(10):
            asyncio.run(use(layer))
    assert descriptors() <= before
