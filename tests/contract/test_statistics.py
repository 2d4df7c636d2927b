"""What was counted: of all, of one channel, and by all processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.contract.configurations import LayerMaker
from tests.contract.test_processes import Start, idle, start  # noqa: F401  # fixtures
from tests.contract.tools import receive
from tests.support.waiting import outlive, wait_until


async def test_of_a_normal_channel(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=3)
    unknown = await layer.channel_statistics("work")
    assert unknown["messages_count"] in (None, 0)
    assert (unknown["messages_pending"], unknown["messages_max_age"]) == (0, 0)
    for n in range(3):
        await layer.send("work", {"n": n})
    for _ in range(2):
        with pytest.raises(layer.ChannelFull):
            await layer.send("work", {"n": 3})
    await layer.send("other", {"n": 4})
    await outlive(0.2)
    assert (await receive(layer, "work"))["n"] == 0
    found = await layer.channel_statistics("work")
    assert 0.1 <= found.pop("messages_max_age") < 30
    assert found == {"messages_count": 3, "messages_pending": 2, "channel_full_count": 2}
    assert await layer.global_statistics() == {"messages_count": 4, "channel_full_count": 2}
    for _ in range(2):
        await receive(layer, "work")
    found = await layer.channel_statistics("work")
    expected = {"messages_count": 3, "messages_pending": 0, "messages_max_age": 0.0, "channel_full_count": 2}
    assert found == expected, "also once it is empty"
    await layer.flush()
    assert await layer.channel_statistics("work") == expected, "a flush deletes messages, not what was counted"


@pytest.mark.configurations("stored", "memory")
async def test_of_a_process_specific_channel(make_layer: LayerMaker) -> None:
    layer = make_layer()
    one, two = await layer.new_channel(), await layer.new_channel()
    await layer.send(one, {"n": 1})
    await layer.send(two, {"n": 2})
    found = await layer.channel_statistics(one)
    assert 0 <= found.pop("messages_max_age") < 30
    assert found == {"messages_count": None, "messages_pending": 2, "channel_full_count": None}, "of its inbox"


async def test_expired_messages_are_not_pending(make_layer: LayerMaker) -> None:
    layer = make_layer(expiry=0.3)
    await layer.send("work", {"n": 1})

    async def has_expired() -> bool:
        return (await layer.channel_statistics("work"))["messages_pending"] == 0

    await wait_until(has_expired, "it expires")
    assert (await layer.channel_statistics("work"))["messages_max_age"] == 0


async def test_more_channels_than_are_counted_by_name(make_layer: LayerMaker) -> None:
    layer = make_layer()
    for n in range(300):
        await layer.send(f"channel.{n}", {"n": n})
    found = [await layer.channel_statistics(f"channel.{n}") for n in range(300)]
    assert [each["messages_pending"] for each in found] == [1] * 300
    counts = [each["messages_count"] for each in found]
    assert counts.count(1) == 256
    assert (await layer.global_statistics())["messages_count"] == 300


@pytest.mark.processes
async def test_of_all_processes(make_layer: LayerMaker, start: Start) -> None:  # noqa: F811
    """On servers they report with their heartbeats, so also one that only sends."""
    layer, other = make_layer(expiry=3), await start(expiry=3)
    await layer.send("work", {"n": 1})
    for n in range(4):
        await other.send("work", {"n": n})

    async def sent() -> tuple[Any, ...]:
        of_channel = await layer.channel_statistics("work")
        return (await layer.statistics())["sent"], of_channel["messages_count"]

    async def are_all_counted() -> bool:
        return await sent() == (5, 5)

    await wait_until(are_all_counted, "the other process has reported")
    assert (await other.statistics())["sent"] == 5
    await asyncio.gather(other.send("work", {"n": 5}), layer.statistics())
    assert (await other.channel_statistics("work"))["messages_count"] == 6
    await other.end()
