"""`receive()` cancelled anywhere: the next message still arrives, and in order. 10,000 cancellations for each path.

Three ways to hit every await point: cancel at await number k, before or after what was waited for happened; cancel
after k turns of the event loop; cancel after a random time, as `asyncio.wait_for` does.
"""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from tests.contract.configurations import LayerMaker
from tests.contract.tools import CancelledAt, as_coroutine, cancel, counted, kinds, new_channel, receive
from tests.support.waiting import any_moment, at_rest, turns, wait_until

late_or_not = pytest.mark.parametrize("late", [False, True], ids=["before", "after"])


async def result_of(task: asyncio.Task[dict[str, int]]) -> list[int]:
    """The number that the task received, or None if it was cancelled."""
    try:
        async with asyncio.timeout(5):
            return [(await task)["n"]]
    except asyncio.CancelledError:
        return []


@kinds
@late_or_not
async def test_at_each_await(make_layer: LayerMaker, kind: str, late: bool) -> None:
    layer = make_layer(capacity=10_000)
    channel = await new_channel(layer, kind)
    sent = 0
    received: list[int] = []
    cancelled = 0
    for step in range(12):
        for turns_before_send in (None, 0, 1, 3):
            if turns_before_send is None:
                await layer.send(channel, {"n": sent})
            call = CancelledAt(layer.receive(channel), step, late)
            task = asyncio.create_task(as_coroutine(call))
            if turns_before_send is not None:
                await turns(turns_before_send)
                await layer.send(channel, {"n": sent})
            sent += 1
            got = await result_of(task)
            cancelled += not got
            received += got
            while len(received) < sent:
                received.append((await receive(layer, channel))["n"])
    assert received == list(range(sent))
    assert cancelled > 0


@kinds
async def test_after_each_number_of_turns(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(capacity=10_000)
    channel = await new_channel(layer, kind)
    received: list[int] = []
    sent = 0
    for number in list(range(25)) * 4:
        task = asyncio.create_task(layer.receive(channel))
        sending = asyncio.create_task(layer.send(channel, {"n": sent}))
        sent += 1
        await turns(number)
        task.cancel()
        received += await result_of(task)
        await sending
        while len(received) < sent:
            received.append((await receive(layer, channel))["n"])
    assert received == list(range(sent))


@pytest.mark.once
@pytest.mark.parametrize("reading", [pytest.param(1, marks=pytest.mark.thorough), 3])
@kinds
async def test_ten_thousand_times(make_layer: LayerMaker, kind: str, reading: int) -> None:
    """Readers are cancelled all the time, while a sender keeps sending: 2,500 times in each of four cases."""
    layer = make_layer(capacity=10_000)
    channel = await new_channel(layer, kind)
    dice = random.Random(f"{kind}{reading}")
    rounds = 2_500
    received: list[int] = []
    cancelled = 0

    async def read_and_give_up() -> None:
        nonlocal cancelled
        task = asyncio.create_task(layer.receive(channel))
        await turns(dice.randrange(6))
        if dice.random() < 0.02:
            await any_moment(0.002, dice)
        task.cancel()
        try:
            received.append((await task)["n"])
        except asyncio.CancelledError:
            cancelled += 1

    async def reader() -> None:
        while cancelled < rounds:
            await read_and_give_up()

    sent = 0

    async def sender() -> None:
        nonlocal sent
        while cancelled < rounds:
            if sent - len(received) < 50:
                await layer.send(channel, {"n": sent})
                sent += 1
            await any_moment(0.002 if sent % 20 == 0 else 0, dice)

    await asyncio.gather(sender(), *(reader() for _ in range(reading)))
    while len(received) < sent:
        received.append((await receive(layer, channel))["n"])
    assert cancelled >= rounds
    if reading == 1:
        assert received == list(range(sent))
    else:
        assert sorted(received) == list(range(sent))
    await layer.send(channel, {"n": "the next"})
    assert (await receive(layer, channel))["n"] == "the next"
    assert await counted(layer, "slow") == 0


@pytest.mark.once
@kinds
async def test_wait_for_with_timeouts_around_the_arrival(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(capacity=10_000)
    channel = await new_channel(layer, kind)
    dice = random.Random(5)
    received: list[int] = []
    for sent in range(150):

        async def send_later(number: int = sent) -> None:
            await any_moment(0.003, dice)
            await layer.send(channel, {"n": number})

        sending = asyncio.create_task(send_later())
        while not sending.done() or len(received) <= sent:
            try:
                received.append((await asyncio.wait_for(layer.receive(channel), dice.random() * 0.003))["n"])
            except TimeoutError:
                continue
        await sending
    assert received == list(range(150))


@kinds
async def test_cancelled_before_it_began(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    for n in range(50):
        await layer.send(channel, {"n": n})
        task = asyncio.create_task(layer.receive(channel))
        await cancel(task)
        assert (await receive(layer, channel))["n"] == n


@kinds
async def test_waiters_leave_nothing_behind(make_layer: LayerMaker, kind: str) -> None:
    """After many cancelled waiters, one that waits gets its message as fast as the first one did."""
    layer = make_layer()
    channel = await new_channel(layer, kind)
    for _ in range(20):
        waiting = [asyncio.create_task(layer.receive(channel)) for _ in range(50)]
        await turns()
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
    last = asyncio.create_task(receive(layer, channel, seconds=1))
    await at_rest(layer, channel)
    await layer.send(channel, {"n": 1})
    assert (await last)["n"] == 1

    async def few_tasks() -> bool:  # the layer may keep some of its own, not one for each waiter
        return len(asyncio.all_tasks()) < 10

    await wait_until(few_tasks, "hardly any tasks are left")


@kinds
async def test_one_that_is_abandoned_takes_no_message(make_layer: LayerMaker, kind: str) -> None:
    """The collector closes its coroutine, which must give up its place even where it is compiled."""
    layer = make_layer()
    channel = await new_channel(layer, kind)
    await layer.send(channel, {"n": 0})
    assert (await receive(layer, channel))["n"] == 0
    abandoned = layer.receive(channel)
    abandoned.send(None)
    del abandoned
    gc.collect()
    await layer.send(channel, {"n": 1})
    assert (await receive(layer, channel))["n"] == 1
