"""Channels of one process: whose they are, their shared capacity, and consumers that are slow, closed or gone."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import tracemalloc

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import HybridLayerError
from tests.contract.configurations import LayerMaker
from tests.contract.tools import (
    assert_silent,
    cancel,
    counted,
    receive,
    receive_numbers,
    send_numbers,
)
from tests.support.loops import Run
from tests.support.waiting import at_rest, turns, wait_until


async def test_receive_on_an_unknown_process_is_refused_at_once(make_layer: LayerMaker) -> None:
    layer = make_layer()
    mine = await layer.new_channel()
    theirs = "specific." + ("A" * 10 if "B" in mine else "B" * 10) + "!"
    for name in (theirs + "1", theirs):
        started = time.monotonic()
        with pytest.raises(HybridLayerError) as caught:
            await receive(layer, name)
        assert name in str(caught.value)
        assert time.monotonic() - started < 0.5


@pytest.mark.parametrize("keys", [None, ["a secret"]], ids=["plain", "encrypted"])
async def test_receive_for_all_channels_of_the_process(make_layer: LayerMaker, keys: list[str] | None) -> None:
    """By the name up to and including the "!", as the specification has it; sent directly and to a group."""
    layer = make_layer(symmetric_encryption_keys=keys)
    channel = await layer.new_channel()
    inbox = channel.partition("!")[0] + "!"
    for name in (channel, inbox):
        await layer.send(name, {"n": name})
        assert (await receive(layer, inbox))["n"] == name
    await layer.group_add("g", channel)
    await layer.group_send("g", {"n": "group"})
    assert (await receive(layer, inbox))["n"] == "group"


async def test_message_sent_before_the_first_receive(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = await layer.new_channel()
    await send_numbers(layer, channel, range(3))
    assert await receive_numbers(layer, channel, 3) == [0, 1, 2]


@pytest.mark.parametrize("closing", [False, True], ids=["open", "closed in between"])
def test_made_and_sent_to_by_sync_code_awaited_later(make_layer: LayerMaker, run: Run, closing: bool) -> None:
    layer = make_layer()
    channel = async_to_sync(layer.new_channel)()
    if closing:
        async_to_sync(layer.close)()
    for n in range(3):
        async_to_sync(layer.send)(channel, {"n": n})
    if closing:
        async_to_sync(layer.close)()

    assert run(receive_numbers(layer, channel, 3)) == [0, 1, 2]


async def test_made_in_one_loop_awaited_in_another_thread(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = await layer.new_channel()
    received: list[int] = []

    def other_thread() -> None:
        async def main() -> None:
            reading = asyncio.create_task(receive_numbers(layer, channel, 3))
            await at_rest(layer, channel)
            waits.set()
            received.extend(await reading)
            await layer.close()

        asyncio.run(main())

    waits = threading.Event()
    thread = threading.Thread(target=other_thread)
    thread.start()
    assert await asyncio.to_thread(waits.wait, 10)
    await send_numbers(layer, channel, range(3))
    await asyncio.to_thread(thread.join, 5)
    assert received == [0, 1, 2]


@pytest.mark.configurations("stored")
async def test_capacity_is_that_of_the_part_up_to_the_mark(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=10)
    channels = [await layer.new_channel() for _ in range(5)]
    other = await layer.new_channel("other")
    for n in range(10):
        await layer.send(channels[n % 5], {"n": n})
    for channel in channels:
        with pytest.raises(ChannelFull):
            await layer.send(channel, {"n": "too many"})
    await send_numbers(layer, other, range(10))
    with pytest.raises(ChannelFull):
        await layer.send(other, {"n": "too many"})
    assert [(await receive(layer, channel))["n"] for channel in channels] == [0, 1, 2, 3, 4]


def slow_warnings(caplog: pytest.LogCaptureFixture, channel: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.WARNING and channel in record.getMessage()]


async def test_slow_consumer_costs_only_itself(make_layer: LayerMaker, caplog: pytest.LogCaptureFixture) -> None:
    layer = make_layer(capacity=10)
    quick, slow = await layer.new_channel(), await layer.new_channel()
    received: list[int] = []

    async def read() -> None:
        while True:
            received.append((await layer.receive(quick))["n"])

    reading = asyncio.create_task(read())
    await at_rest(layer, quick)
    for n in range(50):
        await layer.send(slow, {"n": n})
        await layer.send(quick, {"n": n})

        async def taken_in(count: int = n + 1) -> bool:
            return len(received) == count

        await wait_until(taken_in, "the quick one has its message")
    await cancel(reading)
    assert received == list(range(50))
    assert await counted(layer, "slow") == 40
    assert await counted(layer, "full") == 0
    assert len(slow_warnings(caplog, slow)) == 1
    assert slow_warnings(caplog, quick) == []
    assert await receive_numbers(layer, slow, 10) == list(range(40, 50))
    await assert_silent(layer, slow)


@pytest.mark.one_loop
async def test_buffers_of_closed_consumers_expire_and_are_freed(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=1000, expiry=0.5)
    living = await layer.new_channel()
    text = "x" * 20_000

    async def read() -> None:
        while True:
            await layer.receive(living)

    reading = asyncio.create_task(read())
    await at_rest(layer, living)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(150):
            await layer.send(await layer.new_channel(), {"text": text})

        async def freed() -> bool:
            await layer.send(living, {"keeps": "it going"})
            # More than these expire if the reader is delayed for longer than the expiry.
            return not await grown_by(before, 1_000_000) and await counted(layer, "expired") >= 150

        await wait_until(freed, "what expired is freed")
    finally:
        tracemalloc.stop()
    await cancel(reading)


async def grown_by(before: int, size: int) -> bool:
    return tracemalloc.get_traced_memory()[0] - before > size


@pytest.mark.once
@pytest.mark.one_loop
@pytest.mark.configurations("ipc", "queue-1", "hybrid-pubsub-3")
async def test_closing_a_consumer_leaves_no_state(make_layer: LayerMaker) -> None:
    """What a websocket consumer does, many times: a name, a waiting receive, a group, a cancellation."""
    layer = make_layer()

    async def consumer() -> None:
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        waiting = asyncio.create_task(layer.receive(channel))
        await turns()
        await cancel(waiting)
        await layer.group_discard("room", channel)

    growth = []
    tracemalloc.start()
    try:
        for _ in range(8):
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(50):
                await consumer()
            growth.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    # Names are cached in bounded numbers, and what was just left is tidied up by and by; a consumer that stays costs a
    # kilobyte or more in every round.
    assert min(growth) < 50 * 600
    assert len(asyncio.all_tasks()) < 40, "some for each connection, none for a consumer"
