"""Memory that is used up: the options' or /dev/shm itself. Stored messages stay whole, no process dies of SIGBUS."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from hybrid_layer.exceptions import GroupMemoryFull
from hybrid_layer.ipc import IPCChannelLayer
from tests.contract.peers import Warnings
from tests.ipc.tools import check, layer_of, receive
from tests.support.loops import run
from tests.support.process_main import Parent
from tests.support.processes import Process, Spawn
from tests.support.waiting import turns

PLENTY = 1 << 20
SIZES = (100, 1000, 60_000, 300_000)
"""Payloads of one block, of several, of very many, and one that is copied outside the lock."""


def body(n: int) -> str:
    return f"{n}." * (SIZES[n % len(SIZES)] // len(f"{n}."))


def keep_warnings() -> Warnings:
    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)
    return warnings


async def fill(layer: IPCChannelLayer, channel: str, first: int = 0) -> tuple[int, str]:
    """Send until there is no room even for a small one: the number after the last, and what the first refusal said."""
    n, refusal = first, ""
    while True:
        try:
            await layer.send(channel, {"n": n, "body": body(n)})
        except ChannelFull as error:
            refusal = refusal or str(error)
            if n % len(SIZES) == 0:
                return n, refusal
            n += len(SIZES) - n % len(SIZES) - 1  # too large; smaller ones may still fit
        n += 1


async def send_until_full(layer: IPCChannelLayer, size: int) -> int:
    """Send to "jobs" until the first refusal: how many were taken."""
    for n in itertools.count():
        try:
            await layer.send("jobs", {"n": str(n % 10) * size})
        except ChannelFull:
            return n
    raise AssertionError


async def read_all(layer: IPCChannelLayer, channel: str) -> list[int]:
    """What is there, each message whole."""
    numbers = []
    while True:
        try:
            async with asyncio.timeout(0.2):
                message = await layer.receive(channel)
        except TimeoutError:
            return numbers
        assert message["body"] == body(message["n"])
        numbers.append(message["n"])


async def sender(parent: Parent, prefix: str, options: dict[str, Any]) -> dict[str, int]:
    """Fills the memory as often as it is asked to."""
    keep_warnings()
    layer = IPCChannelLayer(prefix=prefix, capacity=PLENTY, **options)
    first = 0
    own = await layer.new_channel()
    await layer.group_add("group", own)
    parent.ready()
    while await asyncio.to_thread(parent.receive):
        before = first
        first, refusal = await fill(layer, "jobs", first)
        await layer.group_send("group", {"n": "dropped", "body": body(3)})
        parent.send((before, first, refusal))
    return await layer.statistics()


async def reader(parent: Parent, prefix: str, options: dict[str, Any]) -> None:
    """Reads everything as often as it is asked to."""
    layer = IPCChannelLayer(prefix=prefix, **options)
    parent.ready()
    while await asyncio.to_thread(parent.receive):
        parent.send(await read_all(layer, "jobs"))
        check(layer)
    await layer.flush()


def fill_and_read(new_sender: Process, new_reader: Process, says: str) -> dict[str, int]:
    for process in (new_sender, new_reader):
        process.ready()
    stored = []
    for _ in range(3):
        new_sender.send(True)
        first, last, refusal = new_sender.receive()
        assert says in refusal, refusal
        new_reader.send(True)
        numbers = new_reader.receive()
        assert numbers == sorted(set(numbers))
        assert set(numbers) <= set(range(first, last))
        assert len(numbers) >= 10
        stored.append(len(numbers))
    assert min(stored) * 1.2 > max(stored)  # nothing leaks
    new_sender.send(False)
    statistics: dict[str, int] = new_sender.result()
    assert statistics["sent"] == statistics["received"] == sum(stored)
    assert statistics["memory"] >= 3 * (len(SIZES) + 1)
    new_reader.send(False)
    new_reader.result()
    return statistics


def test_message_memory(prefix: str, spawn: Spawn) -> None:
    options = {"message_memory": 2 << 20, "group_memory": 1 << 18}
    fill_and_read(
        spawn("tests.ipc.test_memory_full:sender", prefix, options),
        spawn("tests.ipc.test_memory_full:reader", prefix, options),
        "unread messages take all of message_memory=2097152 bytes. Read faster, lower expiry or capacity, or raise "
        "message_memory.",
    )


def in_use(layer: IPCChannelLayer) -> dict[str, int]:
    found = check(layer)
    return {**found, "blocks": found["blocks"] - found.pop("free"), "free": 0}


def test_group_memory(prefix: str) -> None:
    layer = layer_of(prefix, group_memory=1 << 16)

    async def main() -> None:
        own = await layer.new_channel()
        text = ""
        for members in itertools.count():
            try:
                await layer.group_add(f"group.{members % 7}", f"{own}{members}")
            except GroupMemoryFull as error:
                text = str(error)
                break
        assert f"{own}{members}" in text
        assert "all of group_memory=65536 bytes is in use. Raise group_memory, or lower group_expiry." in text
        assert members > 300
        before = in_use(layer)
        assert before["members"] == members
        for n in range(50):  # no half of one is left: no group, no inbox's entry, no channel for a member
            with pytest.raises(GroupMemoryFull):
                await layer.group_add(f"other.group.with.a.long.name.{n}", own)
            with pytest.raises(GroupMemoryFull):
                await layer.group_add(f"group.{n % 7}", f"normal.{n}")
        assert in_use(layer) == before
        await layer.group_discard("group.0", f"{own}0")
        await layer.group_add("group.0", f"{own}0")
        await layer.group_send("group.0", {"n": 1})
        assert await receive(layer, f"{own}0") == 1

    run(main())
    run(layer.flush())


def test_full_of_others_messages(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not even a block for an inbox or a waiter is left: one is refused with a reason, the other looks by itself."""
    layer = layer_of(prefix, message_memory=1 << 16, capacity=PLENTY)
    late = layer_of(prefix, message_memory=1 << 16)

    async def main() -> None:
        n = await send_until_full(layer, 1)
        with pytest.raises(ChannelFull, match=r"No room for the inbox .* all of message_memory=65536 bytes"):
            await late.new_channel()
        waiting = asyncio.create_task(receive(late, "other"))
        await turns(5)
        assert not waiting.done()
        for expected in range(n):
            assert await receive(layer, "jobs") == str(expected % 10)
        await layer.send("other", {"n": "late"})
        assert await waiting == "late"
        own = await late.new_channel()
        await layer.send(own, {"n": "own"})
        assert await receive(late, own) == "own"

    run(main())
    check(layer)


async def test_group_send_counts_what_it_drops(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    layer = layer_of(prefix, message_memory=1 << 16, capacity=PLENTY)
    own = await layer.new_channel()
    await layer.group_add("group", own)
    await send_until_full(layer, 1000)
    before = await layer.statistics()
    for _ in range(3):
        await layer.group_send("group", {"n": "y" * 1000})
    after = await layer.statistics()
    assert {key: after[key] - before[key] for key in after if after[key] != before[key]} == {"memory": 3}
    with pytest.raises(TimeoutError):
        await receive(layer, own, 0.1)
    while (await layer.statistics())["received"] < after["sent"]:
        await receive(layer, "jobs")
    await layer.group_send("group", {"n": "z"})
    assert await receive(layer, own) == "z"
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if "A message to group group was dropped" in text]) == 1
    assert any("all of message_memory=65536 bytes" in text for text in texts)
