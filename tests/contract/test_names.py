"""Names of channels and groups, and the names that `new_channel()` makes."""

from __future__ import annotations

import asyncio
import enum
from typing import Any

import pytest

from hybrid_layer.exceptions import HybridLayerError, InvalidName
from tests.contract.configurations import LayerMaker
from tests.contract.tools import counted, receive
from tests.support.waiting import at_rest

# Checks and encoding come before any transport: one loop and each path are enough.
pytestmark = [pytest.mark.configurations("each-path"), pytest.mark.one_loop]

A_CHANNEL = "a.normal.channel"
GOOD_NAMES = ["a", "Z", "0", "-", "_", ".", "a.b-c_D9", "x" * 99]
WRONG_ANYWHERE: list[Any] = ["", "x" * 100, "with space", "a\n", b"bytes", None]
WRONG_CHANNELS: list[Any] = [*WRONG_ANYWHERE, "a!b!c", "!a"]
WRONG_GROUPS: list[Any] = [*WRONG_ANYWHERE, "a!b"]
"""One of each kind: `tests/unit/test_names.py` has the others."""


def assert_shows_name(error: BaseException, name: Any) -> None:
    """The text holds the name, in full or, where it is long, its beginning, and says more than that."""
    assert isinstance(error, TypeError)
    assert isinstance(error, HybridLayerError)
    assert repr(name)[:50] in str(error)
    assert len(str(error)) > len(repr(name)) + 10


@pytest.mark.parametrize("name", GOOD_NAMES)
async def test_channel_of_every_allowed_form(make_layer: LayerMaker, name: str) -> None:
    layer = make_layer()
    await layer.send(name, {"type": "hello", "to": name})
    assert await receive(layer, name) == {"type": "hello", "to": name}


@pytest.mark.parametrize("name", GOOD_NAMES)
async def test_group_of_every_allowed_form(make_layer: LayerMaker, name: str) -> None:
    layer = make_layer()
    channel = await layer.new_channel()
    await layer.group_add(name, channel)
    await layer.group_send(name, {"type": "hello", "to": name})
    assert await receive(layer, channel) == {"type": "hello", "to": name}
    await layer.group_discard(name, channel)


@pytest.mark.one_loop
async def test_wrong_channel_name_is_refused_by_every_call(make_layer: LayerMaker) -> None:
    layer = make_layer()
    for name in WRONG_CHANNELS:
        for call in (
            layer.send(name, {"type": "x"}),
            layer.receive(name),
            layer.group_add("group", name),
            layer.group_discard("group", name),
        ):
            with pytest.raises(InvalidName) as caught:
                await call
            assert_shows_name(caught.value, name)
    assert await counted(layer, "sent") == 0


@pytest.mark.one_loop
async def test_wrong_group_name_is_refused_by_every_call(make_layer: LayerMaker) -> None:
    layer = make_layer()
    for name in WRONG_GROUPS:
        for call in (
            layer.group_add(name, A_CHANNEL),
            layer.group_discard(name, A_CHANNEL),
            layer.group_send(name, {"type": "x"}),
        ):
            with pytest.raises(InvalidName) as caught:
                await call
            assert_shows_name(caught.value, name)


class Named(str, enum.Enum):  # noqa: UP042  # StrEnum would do what this is about
    """A name whose str() is another one."""

    NORMAL = "alpha"


@pytest.mark.one_loop
async def test_a_subclass_of_str_stands_for_its_value(make_layer: LayerMaker) -> None:
    layer = make_layer()
    await layer.send(Named.NORMAL, {"n": 1})
    assert await receive(layer, "alpha") == {"n": 1}
    await layer.send("alpha", {"n": 2})
    assert await receive(layer, Named.NORMAL) == {"n": 2}
    channel = await layer.new_channel(Named.NORMAL)
    assert channel.startswith("alpha.")
    await layer.group_add(Named.NORMAL, channel)
    await layer.group_send("alpha", {"n": 3})
    assert await receive(layer, channel) == {"n": 3}


async def test_receive_with_the_whole_name(make_layer: LayerMaker) -> None:
    layer = make_layer()
    first, second = await layer.new_channel(), await layer.new_channel()
    await layer.send(second, {"n": 2})
    await layer.send(first, {"n": 1})
    assert (await receive(layer, first))["n"] == 1
    assert (await receive(layer, second))["n"] == 2


async def test_receive_with_the_part_up_to_the_mark_gets_any_of_it(make_layer: LayerMaker) -> None:
    layer = make_layer()
    first, second = await layer.new_channel(), await layer.new_channel()
    part = first[: first.index("!") + 1]
    for n, channel in enumerate((first, second, first, second)):
        await layer.send(channel, {"n": n})
    assert [(await receive(layer, part))["n"] for _ in range(4)] == [0, 1, 2, 3]


async def test_waiting_with_the_part_up_to_the_mark(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = await layer.new_channel("other")
    part = channel[: channel.index("!") + 1]
    waiting = asyncio.create_task(receive(layer, part))
    await at_rest(layer, part)
    await layer.send(channel, {"n": 1})
    assert (await waiting)["n"] == 1


async def test_part_up_to_the_mark_leaves_other_parts_alone(make_layer: LayerMaker) -> None:
    layer = make_layer()
    red, blue = await layer.new_channel("red"), await layer.new_channel("blue")
    await layer.send(red, {"n": 1})
    await layer.send(blue, {"n": 2})
    assert (await receive(layer, blue[: blue.index("!") + 1]))["n"] == 2
    assert (await receive(layer, red))["n"] == 1


async def test_new_channel_is_new_each_time(make_layer: LayerMaker) -> None:
    layer = make_layer()
    names = [await layer.new_channel() for _ in range(500)]
    assert len(set(names)) == 500
    assert all(name.count("!") == 1 and name.startswith("specific") and len(name) < 100 for name in names)


async def test_new_channel_keeps_the_prefix_readable(make_layer: LayerMaker) -> None:
    layer = make_layer()
    for prefix in ("http.response", "x", "a-b_c.D9", "p" * 75):
        channel = await layer.new_channel(prefix)
        assert channel.startswith(prefix)
        assert len(channel) < 100
        await layer.send(channel, {"to": prefix})
        assert await receive(layer, channel) == {"to": prefix}


@pytest.mark.one_loop
@pytest.mark.parametrize("prefix", ["x" * 99, "x" * 200, "a!b", "a b", "\u00e9", b"x", None, 5])
async def test_new_channel_refuses_a_wrong_prefix(make_layer: LayerMaker, prefix: Any) -> None:
    with pytest.raises(InvalidName) as caught:
        await make_layer().new_channel(prefix)
    shown = prefix[:40] if isinstance(prefix, str) else str(prefix)
    assert ascii(shown)[1:-1] in ascii(str(caught.value))


async def test_two_layers_of_one_prefix_in_one_process(make_layer: LayerMaker) -> None:
    one, two = make_layer(), make_layer()
    channels = [(layer, await layer.new_channel()) for layer in (one, two, one, two)]
    assert len({name for _, name in channels}) == 4
    for n, (_, name) in enumerate(channels):
        await one.send(name, {"n": n})
    assert [(await receive(layer, name))["n"] for layer, name in channels] == [0, 1, 2, 3]
