"""Order, at most once, `ChannelFull`, and several readers on one channel. In one process, in one loop."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull

from tests.contract.configurations import LayerMaker
from tests.contract.tools import (
    assert_silent,
    cancel,
    counted,
    kinds,
    new_channel,
    receive,
    receive_numbers,
    send_numbers,
)
from tests.support.waiting import any_moment, at_rest, turns, wait_until


@kinds
async def test_first_in_first_out(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    await send_numbers(layer, channel, range(100))
    assert await receive_numbers(layer, channel, 100) == list(range(100))
    await assert_silent(layer, channel)


@kinds
async def test_order_while_being_read(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    seen: list[int] = []

    async def read() -> None:
        while len(seen) < 300:
            seen.append((await receive(layer, channel))["n"])

    reading = asyncio.create_task(read())
    for n in range(300):
        await layer.send(channel, {"n": n})
        if n % 7 == 0:
            await turns()
        if n % 50 == 49:
            await wait_until(lambda n=n: len(seen) > n, "the reader has caught up")
    await reading
    assert seen == list(range(300))


@kinds
async def test_each_message_to_one_of_several_readers(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(capacity=1000)
    channel = await new_channel(layer, kind)
    seen: list[tuple[int, int]] = []

    async def reader(me: int) -> None:
        while True:
            seen.append((me, (await layer.receive(channel))["n"]))

    readers = [asyncio.create_task(reader(me)) for me in range(5)]
    await at_rest(layer, channel)
    await send_numbers(layer, channel, range(500))

    async def all_seen() -> bool:
        return len(seen) >= 500

    await wait_until(all_seen, "all messages have come")
    for task in readers:
        await cancel(task)
    await assert_silent(layer, channel)
    assert sorted(n for _, n in seen) == list(range(500))
    for me in range(5):
        mine = [n for reader_, n in seen if reader_ == me]
        assert mine == sorted(mine)


async def test_full_channel(make_layer: LayerMaker, bounded_kind: str) -> None:
    layer = make_layer(capacity=7)
    channel = await new_channel(layer, bounded_kind)
    await send_numbers(layer, channel, range(7))
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(ChannelFull):
            await layer.send(channel, {"n": "too many"})
    assert time.monotonic() - started < 1.0  # never waits for room
    assert await counted(layer, "full") == 20
    assert await receive_numbers(layer, channel, 7) == list(range(7))
    await assert_silent(layer, channel)
    await layer.send(channel, {"n": "room again"})
    assert (await receive(layer, channel))["n"] == "room again"


async def test_full_channel_names_channel_inbox_and_capacity(make_layer: LayerMaker, bounded_kind: str) -> None:
    layer = make_layer(capacity=37)
    assert layer.ChannelFull is ChannelFull
    channel = await new_channel(layer, bounded_kind)
    await send_numbers(layer, channel, range(37))
    with pytest.raises(ChannelFull) as caught:
        await layer.send(channel, {"n": "too many"})
    text = str(caught.value)
    assert channel in text
    assert re.search(r"\b37\b", text.replace(channel, ""))
    if bounded_kind == "specific":
        assert channel[: channel.index("!") + 1] in text.replace(channel, "")


async def test_capacity_is_atomic(make_layer: LayerMaker, bounded_kind: str) -> None:
    layer = make_layer(capacity=10)
    channel = await new_channel(layer, bounded_kind)
    results = await asyncio.gather(*(layer.send(channel, {"n": n}) for n in range(200)), return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [ChannelFull] * 190
    accepted = [n for n, result in enumerate(results) if result is None]
    assert await receive_numbers(layer, channel, 10) == accepted
    await assert_silent(layer, channel)


@kinds
async def test_order_of_a_sender_that_uses_async_to_sync(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    send = async_to_sync(layer.send)

    def sender() -> None:
        for n in range(90):
            send(channel, {"n": n})

    # In a plain thread, async_to_sync makes a new loop for each call.
    await asyncio.to_thread(sender)
    assert await receive_numbers(layer, channel, 90) == list(range(90))


async def until_it_is_read_here(layer: Any, channel: str) -> None:
    """While the subscription moves from one thread to another, two readers may be woken at once, in either order."""
    with pytest.raises(TimeoutError):
        await receive(layer, channel, seconds=0.4)


@kinds
async def test_longest_waiting_reader_first(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    await until_it_is_read_here(layer, channel)
    for _ in range(5):
        waiting = [asyncio.create_task(receive(layer, channel)) for _ in range(4)]
        await at_rest(layer, channel)
        await send_numbers(layer, channel, range(4))
        assert [message["n"] for message in await asyncio.gather(*waiting)] == [0, 1, 2, 3]


@kinds
async def test_new_reader_queues_behind_the_older_ones(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    await until_it_is_read_here(layer, channel)
    older = asyncio.create_task(receive(layer, channel))
    await at_rest(layer, channel)
    sending = asyncio.create_task(layer.send(channel, {"n": 0}))
    newer = asyncio.create_task(receive(layer, channel))
    await sending
    newest = asyncio.create_task(receive(layer, channel))
    await send_numbers(layer, channel, range(1, 3))
    assert [message["n"] for message in await asyncio.gather(older, newer, newest)] == [0, 1, 2]


@kinds
async def test_cancelled_reader_neither_swallows_nor_delays(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    await until_it_is_read_here(layer, channel)
    waiting = [asyncio.create_task(receive(layer, channel)) for _ in range(5)]
    await at_rest(layer, channel)
    for index in (0, 2):
        await cancel(waiting[index])
    started = time.monotonic()
    await send_numbers(layer, channel, range(3))
    left = [await waiting[index] for index in (1, 3, 4)]
    assert [message["n"] for message in left] == [0, 1, 2]
    assert time.monotonic() - started < 1.0


@kinds
async def test_reader_cancelled_as_its_message_arrives(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    for start in range(0, 200, 2):
        first, second = (asyncio.create_task(receive(layer, channel)) for _ in range(2))
        await any_moment(0.002)
        await send_numbers(layer, channel, range(start, start + 2))
        first.cancel()
        results = await asyncio.gather(first, return_exceptions=True)
        got = [] if isinstance(results[0], asyncio.CancelledError) else [results[0]["n"]]
        got.append((await second)["n"])
        if len(got) < 2:
            got.append((await receive(layer, channel))["n"])
        assert got == [start, start + 1]


@kinds
async def test_busy_channel_does_not_starve_a_quiet_one(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(capacity=1000)
    busy = await new_channel(layer, kind)
    quiet = "quiet" if kind == "normal" else await layer.new_channel()
    fed = busy_messages = 0

    async def feed() -> None:
        """Never lets the channel run dry, and leaves room, since process-specific channels share it."""
        nonlocal fed
        while True:
            if fed - busy_messages < 500:
                fed += 1
                await layer.send(busy, {"n": 0})
            await turns()

    async def read() -> None:
        nonlocal busy_messages
        while True:
            await layer.receive(busy)
            busy_messages += 1

    tasks = [asyncio.create_task(feed()) for _ in range(3)] + [asyncio.create_task(read())]

    async def busy_enough() -> bool:
        return busy_messages >= 50

    try:
        await wait_until(busy_enough, "the busy channel is read")
        for n in range(5):
            await layer.send(quiet, {"n": n})
            assert (await receive(layer, quiet, seconds=2))["n"] == n
        assert busy_messages > 50
    finally:
        for task in tasks:
            await cancel(task)


async def test_many_channels_at_once(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channels = [f"channel.{n}" for n in range(40)] + [await layer.new_channel() for _ in range(40)]
    waiting = {channel: asyncio.create_task(receive(layer, channel)) for channel in channels}
    await at_rest(layer, *channels)
    for channel in reversed(channels):
        await layer.send(channel, {"to": channel})
    for channel, task in waiting.items():
        assert (await task)["to"] == channel


@kinds
async def test_a_send_is_stored_when_it_returns(make_layer: LayerMaker, kind: str) -> None:
    sender = make_layer()
    channel = await new_channel(sender, kind)
    await sender.send(channel, {"n": 1})
    started = time.monotonic()
    assert (await receive(sender, channel))["n"] == 1
    assert time.monotonic() - started < 1.0
