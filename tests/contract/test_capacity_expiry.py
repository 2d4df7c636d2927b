"""How many messages a channel holds and how long: the sender's policy, the same on both sides of the hybrid."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import InvalidArgument
from tests.contract.configurations import LayerMaker
from tests.contract.tools import assert_silent, cancel, counted, new_channel, receive
from tests.support.waiting import at_rest, outlive, receiving, until, wait_until


async def room(layer: Any, channel: str) -> int:
    """How many messages `channel` accepts."""
    for sent in range(1000):
        try:
            await layer.send(channel, {"n": sent})
        except ChannelFull:
            return sent
    raise AssertionError("it takes any number")


async def test_capacity_by_pattern_first_match_counts(make_layer: LayerMaker) -> None:
    layer = make_layer(
        capacity=9,
        channel_capacity={
            "jobs": 2,
            "jobs.*": 3,
            re.compile(r"jobs\.late|mail"): 4,
            "mail.*": 5,
            "*.low": 1,
            "?": 6,
            "jobs.low": 8,
            "[xy]z": 7,
        },
    )
    expected = {
        "jobs": 2,
        "jobs.late": 3,  # the glob stands before the pattern
        "jobsx": 9,  # a glob matches the whole name
        "xjobs": 9,
        "mail.now": 4,  # a pattern matches from the start, as in Channels
        "amail": 9,
        "a.low": 1,
        "jobs.low": 3,
        "q": 6,
        "xz": 7,
        "zz": 9,
        "JOBS": 9,
    }
    for channel, capacity in expected.items():
        assert await room(layer, channel) == capacity, channel
        assert layer.get_capacity(channel) == capacity


@pytest.mark.configurations("stored")
@pytest.mark.parametrize(
    "pattern",
    ["http.*!", "http.*!*", "http.*", "http.response.*!", re.compile(r"http\..*!$"), re.compile(r".*!\d+$")],
    ids=str,
)
async def test_capacity_of_process_specific_channels(make_layer: LayerMaker, pattern: Any) -> None:
    layer = make_layer(capacity=9, channel_capacity={pattern: 3, "*": 5})
    assert await room(layer, await layer.new_channel("http.response")) == 3
    assert await room(layer, "a.normal.channel") == 5


@pytest.mark.one_loop
@pytest.mark.configurations("stored")
@pytest.mark.parametrize("pattern", ["http.response!*", "http.response!"])
async def test_glob_with_a_mark_on_full_and_non_local_name(make_layer: LayerMaker, pattern: str) -> None:
    layer = make_layer(capacity=9, channel_capacity={pattern: 3})
    assert layer.get_capacity("http.response!abc") == 3
    assert layer.get_capacity("http.response!") == 3
    assert layer.get_capacity("http.response") == 9
    assert await room(layer, "http.response") == 9
    assert await room(layer, await layer.new_channel("http.response")) == 9


async def both_kinds(layer: Any) -> list[str]:
    """A normal and a process-specific channel: one sleep serves both."""
    return ["a.normal.channel", await layer.new_channel()]


async def bounded_kinds(make_layer: LayerMaker, layer: Any) -> list[str]:
    """Those of `both_kinds` that can be full."""
    return [
        channel
        for channel in await both_kinds(layer)
        if make_layer.configuration.is_bounded("specific" if "!" in channel else "normal")
    ]


@pytest.mark.one_loop
async def test_unread_message_expires(make_layer: LayerMaker) -> None:
    layer = make_layer(expiry=0.3)
    channels = await both_kinds(layer)
    for channel in channels:
        await layer.send(channel, {"n": 1})
    await outlive(0.3)

    async def are_found() -> bool:
        for channel in channels:  # a reader finds them, a remote one in its own time
            await assert_silent(layer, channel, 0.05)
        return await counted(layer, "expired") >= 2

    await wait_until(are_found, "both messages are counted as expired")
    assert await counted(layer, "expired") == 2
    for channel in channels:
        await layer.send(channel, {"n": 2})
        assert (await receive(layer, channel))["n"] == 2


@pytest.mark.one_loop
async def test_message_lives_until_its_expiry(make_layer: LayerMaker) -> None:
    layer = make_layer(expiry=2)
    channels = await both_kinds(layer)
    for channel in channels:
        await layer.send(channel, {"n": 1})
    await until(time.monotonic() + 0.5)
    for channel in channels:
        assert (await receive(layer, channel))["n"] == 1


@pytest.mark.one_loop
async def test_expired_messages_before_a_living_one(make_layer: LayerMaker) -> None:
    layer = make_layer(expiry=0.4)
    channels = await both_kinds(layer)
    for channel in channels:
        for n in range(10):
            await layer.send(channel, {"n": n})
    await outlive(0.4)
    for channel in channels:
        await layer.send(channel, {"n": "living"})
        assert (await receive(layer, channel))["n"] == "living"
    assert await counted(layer, "expired") == 20


@pytest.mark.one_loop
async def test_each_message_has_its_own_expiry(make_layer: LayerMaker) -> None:
    """Sending to a channel does not renew the messages that wait in it."""
    layer = make_layer(expiry=1)
    for channel in await both_kinds(layer):
        sent = []
        for n in range(8):
            sent.append(time.monotonic())
            await layer.send(channel, {"n": n})
            await until(sent[-1] + 0.15)
        asked = time.monotonic()
        first = (await receive(layer, channel))["n"]
        # A server has its own clock, which the layer knows to a few milliseconds.
        assert time.monotonic() - sent[first - 1] > 0.99
        assert asked - sent[first] < 1.05


@pytest.mark.one_loop
async def test_expired_messages_take_no_capacity(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=5, expiry=0.4)
    channels = await bounded_kinds(make_layer, layer)
    for channel in channels:
        assert await room(layer, channel) == 5
    await outlive(0.4)
    for channel in channels:
        assert await room(layer, channel) == 5
        await layer.group_add("group", channel)
    await outlive(0.4)
    await layer.group_send("group", {"n": "to the group"})
    for channel in channels:
        assert (await receive(layer, channel))["n"] == "to the group"


@pytest.mark.one_loop
async def test_message_taken_in_by_its_process_expires_there(make_layer: LayerMaker) -> None:
    layer = make_layer(expiry=0.5)
    awaited, other = await layer.new_channel(), await layer.new_channel()
    waiting = asyncio.create_task(receive(layer, awaited))
    await at_rest(layer, awaited)
    await layer.send(other, {"n": 1})
    await layer.send(awaited, {"n": 2})
    assert (await waiting)["n"] == 2
    await outlive(0.5)
    await layer.send(other, {"n": 3})
    assert (await receive(layer, other))["n"] == 3
    assert await counted(layer, "expired") == 1


@pytest.mark.one_loop
@pytest.mark.configurations("local")
async def test_expired_messages_take_no_memory(make_layer: LayerMaker) -> None:
    layer = make_layer(message_memory=2 * 1024 * 1024, expiry=0.3, capacity=1000)
    text = "x" * 60_000
    for round_ in range(3):
        for n in range(25):  # about 1.5 MB; twice as much does not fit
            await layer.send(f"round.{round_}.channel.{n}", {"text": text})
        await outlive(0.3)


@pytest.mark.one_loop
async def test_reader_that_waited_longer_than_expiry(make_layer: LayerMaker) -> None:
    layer = make_layer(expiry=0.4)
    channels = await both_kinds(layer)
    waiting = [asyncio.create_task(receive(layer, channel)) for channel in channels]
    await outlive(0.4)
    for channel in channels:
        await layer.send(channel, {"n": channel})
    assert [message["n"] for message in await asyncio.gather(*waiting)] == channels


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Shifts the wall clock by a number of seconds."""
    wall_clock = time.time
    return lambda shift: monkeypatch.setattr(time, "time", lambda: wall_clock() + shift)


@pytest.mark.one_loop
async def test_clock_set_forward_lets_nothing_expire(
    make_layer: LayerMaker, set_clock: Callable[[float], None]
) -> None:
    layer = make_layer(expiry=60, group_expiry=60)
    channels = await both_kinds(layer)
    for channel in channels:
        await layer.group_add("group", channel)
        await layer.send(channel, {"n": 1})
    set_clock(7200)
    await layer.group_send("group", {"n": 2})
    for channel in channels:
        assert {(await receive(layer, channel))["n"] for _ in range(2)} == {1, 2}


@pytest.mark.one_loop
async def test_clock_set_back_keeps_nothing_alive(make_layer: LayerMaker, set_clock: Callable[[float], None]) -> None:
    layer = make_layer(expiry=0.3, group_expiry=0.3)
    channels = await both_kinds(layer)
    for channel in channels:
        await layer.group_add("group", channel)
        await layer.send(channel, {"n": 1})
    set_clock(-7200)
    await outlive(0.3)
    await layer.group_send("group", {"n": 2})
    for channel in channels:
        await assert_silent(layer, channel, 0.05)


@pytest.mark.one_loop
async def test_the_senders_policy_holds(make_layer: LayerMaker) -> None:
    reader = make_layer(capacity=50, expiry=60)
    small = make_layer(capacity=3, expiry=60)
    hasty = make_layer(capacity=50, expiry=0.2)
    channels = await bounded_kinds(make_layer, reader)
    for channel in channels:
        assert await room(small, channel) == 3
        for n in range(3, 10):
            await reader.send(channel, {"n": n})
        with pytest.raises(ChannelFull):
            await small.send(channel, {"n": "too many for me"})
        await hasty.send(channel, {"n": "hasty"})
        await reader.send(channel, {"n": 10})
    await outlive(0.2)
    for channel in channels:
        assert [(await receive(reader, channel))["n"] for _ in range(11)] == list(range(11))


@pytest.mark.one_loop
async def test_the_senders_group_expiry_holds(make_layer: LayerMaker) -> None:
    patient, hasty = make_layer(group_expiry=60), make_layer(group_expiry=0.2)
    mine, theirs = await patient.new_channel(), await hasty.new_channel()
    await patient.group_add("group", mine)
    await hasty.group_add("group", theirs)
    await outlive(0.2)
    await hasty.group_send("group", {"n": 1})
    assert (await receive(patient, mine))["n"] == 1
    await assert_silent(hasty, theirs)


async def test_capacity_counts_what_is_unread_only(make_layer: LayerMaker, bounded_kind: str) -> None:
    layer = make_layer(capacity=5)
    channel = await new_channel(layer, bounded_kind)
    for n in range(100):
        await layer.send(channel, {"n": n})
        assert (await receive(layer, channel))["n"] == n
    assert await room(layer, channel) == 5


@pytest.mark.one_loop
async def test_closed_reader_does_not_keep_messages_from_expiring(make_layer: LayerMaker) -> None:
    layer = make_layer(expiry=0.4)
    channel = await layer.new_channel()
    (reading,) = await receiving(layer, channel)
    await cancel(reading)
    for n in range(5):
        await layer.send(channel, {"n": n})
    await outlive(0.4)
    await layer.send(channel, {"n": "living"})
    assert (await receive(layer, channel))["n"] == "living"

    async def all_counted() -> bool:
        return await counted(layer, "expired") == 5

    await wait_until(all_counted, "all that expired are counted")


@pytest.mark.one_loop
async def test_expiry_of_one_message(make_layer: LayerMaker) -> None:
    """Shorter and longer than that of the layer; it concerns no other message."""
    layer = make_layer(expiry=0.5)
    lasting = make_layer(expiry=60)
    channels = await both_kinds(layer)
    for channel in channels:
        await layer.send(channel, {"n": "long"}, expiry=60)
        await layer.send(channel, {"n": "usual"})
        await lasting.send(channel, {"n": "short"}, expiry=0.2)
        await lasting.send(channel, {"n": "other"})
    await outlive(0.5)
    for channel in channels:
        assert [(await receive(layer, channel))["n"] for _ in range(2)] == ["long", "other"]
        await assert_silent(layer, channel, 0.05)
    assert await counted(layer, "expired") == 2 * len(channels)


async def test_a_message_that_expired_early_takes_no_capacity(make_layer: LayerMaker, bounded_kind: str) -> None:
    layer = make_layer(capacity=2)
    channel = await new_channel(layer, bounded_kind)
    for n in range(2):
        await layer.send(channel, {"n": n}, expiry=0.1)
    await outlive(0.1)
    assert await room(layer, channel) == 2


@pytest.mark.parametrize("expiry", [True, 0, -1, float("nan"), float("inf"), 10**10, "5"], ids=str)
@pytest.mark.configurations("ipc", "hybrid-1")
async def test_an_expiry_that_is_none(make_layer: LayerMaker, expiry: Any) -> None:
    layer = make_layer()
    with pytest.raises(InvalidArgument, match=r"^expiry=.* is refused: give the seconds .* above 0 and at most"):
        await layer.send("a.channel", {"n": 1}, expiry=expiry)
    assert await room(layer, "a.channel") == layer.capacity
