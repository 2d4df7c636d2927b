"""Messages to a group that some members do not get."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_layer.exceptions import InvalidArgument, InvalidName, MessageTooLarge
from tests.contract.configurations import LayerMaker
from tests.contract.tools import A_NORMAL_CHANNEL, assert_silent, counted, members, receive_numbers
from tests.support.probe import probe


async def test_who_is_excluded_gets_nothing(make_layer: LayerMaker) -> None:
    """One by its name, several, all of an inbox, a normal channel, and who is no member."""
    layer = make_layer()
    channels = [*await members(layer, 5), A_NORMAL_CHANNEL]
    await layer.group_add("group", A_NORMAL_CHANNEL)
    one, two, *others = channels
    await layer.group_send("group", {"n": 0})
    await layer.group_send("group", {"n": 1}, exclude=one)
    await layer.group_send("group", {"n": 2}, exclude={one, two, "specific.AAAAAAAAAA!1", "no.member"})
    await layer.group_send("group", {"n": 3}, exclude=channels)
    await layer.group_send("group", {"n": 4}, exclude=[A_NORMAL_CHANNEL, *(name for name in channels if "red" in name)])
    await layer.group_send("group", {"n": 5}, exclude=(name for name in others if "!" in name))
    await layer.group_send("group", {"n": 6}, exclude=[])
    for channel in channels:
        left_out = {
            1: {one},
            2: {one, two},
            3: set(channels),
            4: {A_NORMAL_CHANNEL, *(name for name in channels if "red" in name)},
            5: {name for name in others if "!" in name},
        }
        expected = [n for n in range(7) if channel not in left_out.get(n, ())]
        assert await receive_numbers(layer, channel, len(expected)) == expected, channel
        await assert_silent(layer, channel, 0.02)


async def test_who_is_excluded_is_neither_sent_to_nor_dropped(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=2)
    one = (await members(layer, 1))[0]
    await layer.group_add("group", A_NORMAL_CHANNEL)
    kept = await layer.statistics()
    for _ in range(5):
        await layer.group_send("group", {"n": 1}, exclude=[one, A_NORMAL_CHANNEL])
    is_published = make_layer.configuration.remote == "pubsub"  # the processes that hear of it are counted
    for key, number in (await layer.statistics()).items():
        assert number - kept[key] == (5 if is_published and key == "sent" else 0), key
    await layer.group_send("group", {"n": 2}, exclude=one)
    assert await receive_numbers(layer, A_NORMAL_CHANNEL, 1) == [2]
    assert await counted(layer, "full") == kept["full"]


async def test_a_group_stays_when_all_of_a_machine_are_excluded(make_layer: LayerMaker) -> None:
    layer = make_layer()
    one = (await members(layer, 1))[0]
    await layer.group_send("group", {"n": 1}, exclude=one)
    await layer.group_send("group", {"n": 2})
    assert await receive_numbers(layer, one, 1) == [2]


@pytest.mark.configurations("ipc", "queue-1", "pubsub-1", "machine-1")
async def test_large_and_encrypted(make_layer: LayerMaker) -> None:
    """The names are outside of the cipher: whoever delivers the message needs no key."""
    layer = make_layer(symmetric_encryption_keys=["secret"])
    one, two = await members(layer, 2)
    await layer.group_send("group", {"n": 1, "text": "x" * 300_000}, exclude=one)
    await layer.group_send("group", {"n": 2}, exclude=two)
    assert await receive_numbers(layer, one, 1) == [2]
    assert await receive_numbers(layer, two, 1) == [1]


@pytest.mark.configurations("ipc", "queue-1")
async def test_what_cannot_be_excluded(make_layer: LayerMaker) -> None:
    layer = make_layer(max_message_size=4000)
    one = (await members(layer, 1))[0]

    async def refused(error: type[Exception], match: str, exclude: Any) -> None:
        with pytest.raises(error, match=match):
            await layer.group_send("group", {"n": 1}, exclude=exclude)

    await refused(InvalidArgument, r"^exclude=5 is refused: give the name of a channel, or a list of names\.$", 5)
    await refused(InvalidArgument, r"^exclude has 1,001 channels; at most 1,000", [f"a.{n}" for n in range(1001)])
    await refused(
        InvalidArgument,
        r"^The names in exclude take .* bytes; at most 65,535",
        ["x" * 94 + f".{n}" for n in range(1000)],
    )
    await refused(InvalidName, "not allowed", "a b")
    await refused(InvalidName, "must be a str, not int", [5])
    await refused(InvalidName, "must be a str, not bytes", [b"a"])
    await refused(MessageTooLarge, "max_message_size=4000", [f"a.channel.{n}" for n in range(500)])
    await layer.group_send("group", {"n": 2}, exclude=["a"] * 2000)
    assert await receive_numbers(layer, one, 1) == [2]


async def test_hostile_envelopes(make_layer: LayerMaker) -> None:
    """A stranger's: none raises an error anywhere, and each is counted. The members go on."""
    layer = make_layer(serializer_format="json")
    one, two = await members(layer, 2)
    before = await counted(layer, "undecodable")
    hostile = [b"\xc1", b"\xc1\xff\xff{}", b"\xc1\0\1\x90{}", b"\xc1\0\x04\x81\xa1x\x01{}", b"\xc1\0\1\xc1{}"]
    for payload in hostile:
        await probe(layer).group_send("group", payload)
    await layer.group_send("group", {"n": 1}, exclude=two)
    await layer.group_send("group", {"n": 2})
    assert await receive_numbers(layer, one, 2) == [1, 2]
    assert await receive_numbers(layer, two, 1) == [2]
    # Once for each inbox or member, or for the process, whichever finds it.
    assert len(hostile) <= await counted(layer, "undecodable") - before <= 2 * len(hostile)
