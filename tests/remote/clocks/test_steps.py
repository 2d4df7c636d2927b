"""The clock of a real server is set during traffic: nothing is lost, nothing comes twice, no process counts as dead."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.remote.tools import WAYS, Make, listens_here
from tests.support.clocks import Clocks
from tests.support.marks import but_thorough
from tests.support.process_main import Parent
from tests.support.servers import KINDS, Kind, Server, start_server
from tests.support.waiting import at_rest, outlive, until, wait_until

STEPS = (-7200.0, 300.0, 2.0, -1.0, 300.0, -300.0)
PAUSE = 0.005
"""Seconds between two rounds of messages."""


class Traffic:
    """The messages of one process to another: over a normal channel, a process-specific one and two groups."""

    def __init__(self, sender: Any, reader: Any) -> None:
        self.sender = sender
        self.reader = reader
        self.sent = 0
        self.received: dict[str, list[int]] = {}
        self.notices: list[str] = []
        self.name = ""
        self._readers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.name = await self.reader.new_channel()
        grouped = await self.reader.new_channel()
        await self.reader.group_add("g", grouped)
        await self.reader.group_add("g", "grouped")
        for channel in ("normal", self.name, grouped, "grouped"):
            self.received[channel] = []
            self._readers.append(asyncio.create_task(self._read(channel)))
        await at_rest(self.reader, *self.received)
        await listens_here(self.reader)

    async def run(self, seconds: float) -> None:
        """Send for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self.send()
            await asyncio.sleep(PAUSE)  # the clock is set between two messages, and during one

    async def send(self) -> None:
        message = {"type": "number", "n": self.sent}
        await self.sender.send("normal", message)
        await self.sender.send(self.name, message)
        await self.sender.group_send("g", message)
        self.sent += 1

    async def all_arrived(self, counted: tuple[str, ...] = ("dead", "expired", "full", "slow")) -> None:
        """All came, once, in order, and nothing was counted as dropped."""

        def have_come() -> bool:
            return all(len(numbers) >= self.sent for numbers in self.received.values())

        with contextlib.suppress(AssertionError):  # what is missing is shown below
            await wait_until(have_come, "all have come", 8)
        expected = list(range(self.sent))
        assert {channel: missing(numbers, self.sent) for channel, numbers in self.received.items()} == {
            channel: [] for channel in self.received
        }
        assert all(numbers == expected for numbers in self.received.values())
        for layer in (self.sender, self.reader):
            counters = await layer.statistics()
            assert not {key: counters[key] for key in counted if counters[key]}
        assert not self.notices

    async def stop(self) -> None:
        for task in self._readers:
            task.cancel()
        await asyncio.wait(self._readers)

    async def _read(self, channel: str) -> None:
        while True:
            message = await self.reader.receive(channel)
            if message["type"] == "number":
                self.received[channel].append(message["n"])
            else:
                self.notices.append(message["type"])


def missing(numbers: list[int], sent: int) -> list[int]:
    return sorted(set(range(sent)) - set(numbers))


@pytest.mark.parametrize("way", WAYS)
async def test_the_clock_is_set_during_traffic(way: str, clocks: Clocks, make: Make) -> None:
    flow = Traffic(*(make(WAYS[way], capacity=1000) for _ in range(2)))
    await flow.start()
    await flow.run(0.2)
    for seconds in STEPS:
        clocks.step(seconds)
        await flow.run(0.25)
    await flow.all_arrived()
    await flow.stop()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seconds", but_thorough([-7200.0, 300.0], -7200.0))
async def test_the_clock_is_set_while_all_wait(
    way: str, seconds: float, server: Server, clocks: Clocks, make: Make
) -> None:
    """The first message after it, by a process that sends for the first time, reaches the receivers that waited."""
    flow = Traffic(*(make(WAYS[way], timeout=3, block_time=0.5) for _ in range(2)))
    await flow.start()
    clocks.step(seconds)
    await flow.send()
    if seconds < 0:
        await until(time.monotonic() + 3)  # the server ends the pops under way when its clock is back there
    await flow.send()
    # A first-time sender cannot know that the clock was set forward, but its message is stored.
    await flow.all_arrived(("expired", "full", "slow") if seconds > 0 else ("dead", "expired", "full", "slow"))
    await flow.stop()


@pytest.mark.parametrize("way", ["pubsub", "hybrid-pubsub"])
async def test_who_begins_after_it_hears_who_knows_the_clock_of_before(way: str, clocks: Clocks, make: Make) -> None:
    """The sender has just asked for the time, and stamps its messages by that."""
    flow = Traffic(*(make(WAYS[way]) for _ in range(2)))
    own = await flow.sender.new_channel()
    await flow.sender.send(own, {"n": 0})
    assert await flow.sender.receive(own) == {"n": 0}
    clocks.step(300)
    name = await flow.reader.new_channel()
    await flow.sender.send(name, {"n": 1})  # before anything that shows the step to the sender
    assert await asyncio.wait_for(flow.reader.receive(name), 8) == {"n": 1}


@pytest.mark.parametrize("seconds", [300.0, -7200.0])
async def test_what_is_stored_outlives_the_setting_of_the_clock(
    seconds: float, clocks: Clocks, make_layer: Make
) -> None:
    """In a full queue, too, to which a process tries to send."""
    sender, reader = (make_layer(capacity=5) for _ in range(2))
    await reader.send("other", {"n": 0})
    assert await reader.receive("other") == {"n": 0}
    for n in range(5):
        await sender.send("normal", {"n": n})
    clocks.step(seconds)
    for _ in range(3):
        with pytest.raises(sender.ChannelFull):
            await sender.send("normal", {"n": "too much"})
    assert [(await reader.receive("normal"))["n"] for _ in range(5)] == list(range(5))


async def test_what_has_expired_does_so_whatever_was_set(server: Server, clocks: Clocks, make_layer: Make) -> None:
    layer = make_layer(expiry=0.5)
    for seconds in (300.0, -300.0):
        await layer.send("normal", {"n": "before"})
        clocks.step(seconds)
        for _ in range(2):  # Valkey answers the first question by what it read before
            server.command("TIME")
        await layer.send("normal", {"n": "after"})
        await outlive(0.5)
        await layer.send("normal", {"n": "new"})
        received = []
        while "new" not in received:
            received.append((await layer.receive("normal"))["n"])
        # What was sent before the clock was set back may be taken for one that was sent after.
        assert "after" not in received
        assert received == ["new"] or seconds < 0


@pytest.mark.parametrize("way", ["queue", "hybrid"])
async def test_the_dead_are_found_after_the_clock_was_set(
    way: str, make: Make, server: Server, prefix: str, clocks: Clocks
) -> None:
    sender = make(WAYS[way], expiry=1)
    reader = WAYS[way](hosts=[server.url], prefix=prefix, expiry=1)
    await sender.send("normal", {"n": 0})
    await sender.receive("normal")
    name = await reader.new_channel()
    await reader.group_add("g", name)
    clocks.step(-7200)
    await reader.close()
    del reader

    async def is_found() -> bool:
        await sender.group_send("g", {"n": 1})
        return (await sender.statistics())["dead"] > 0

    await wait_until(is_found, "the member is found to be dead")


async def be_suspended(parent: Parent, way: str, url: str, prefix: str) -> dict[str, list[int]]:
    """A machine that is suspended between two messages; what came."""
    layer = WAYS[way](hosts=[url], prefix=prefix)
    channels = ["normal", await layer.new_channel(), await layer.new_channel()]
    await layer.group_add("g", channels[2])

    async def send(number: int) -> None:
        for channel in channels[:2]:
            await layer.send(channel, {"n": number})
        await layer.group_send("g", {"n": number})

    await send(0)  # with pub/sub, the process takes it in
    parent.ready()
    await asyncio.to_thread(parent.receive)
    received: dict[str, list[int]] = {}
    await send(1)
    await send(2)
    for channel in channels:
        received[channel.partition("!")[0].partition(".")[0]] = numbers = []
        while not numbers or numbers[-1] < 2:
            numbers.append((await layer.receive(channel))["n"])
    await layer.close()
    return received


@pytest.mark.parametrize("way", ["queue", "hybrid"])
def test_a_machine_is_suspended(
    way: str, server: Server, clocks: Clocks, prefix: str, spawn: Callable[..., Any]
) -> None:
    """Messages that expired meanwhile are dropped, and later ones arrive."""
    environment = {name: clocks.environment[name] for name in ("LD_PRELOAD", "CLOCK_SHIFT")}
    process = spawn(be_suspended, way, server.url, prefix, environment=environment)
    process.ready()
    clocks.suspend(300)
    process.send(None)
    assert process.result() == {"normal": [1, 2], "specific": [1, 2]}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
async def test_the_clock_is_set_often(kind: Kind, way: str, make: Make, tmp_path: Path) -> None:
    with Clocks(tmp_path) as clocks, start_server(kind, environment=clocks.environment) as server:
        flow = Traffic(*(make(WAYS[way], hosts=[server.url], capacity=1000) for _ in range(2)))
        await flow.start()
        for seconds in (0.4, -0.4, 1800, -1800, 59, -59, -86400, 3000, *STEPS):
            clocks.step(seconds)
            await flow.run(1)
        await flow.all_arrived()
        await flow.stop()
