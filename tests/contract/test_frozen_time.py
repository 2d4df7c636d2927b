"""Tests that freeze the time: the layers use the real clocks, meanwhile and afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import freezegun
import pytest
import time_machine
from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.timers import sleep
from tests.contract.configurations import LayerMaker
from tests.support.servers import NewServer, Server
from tests.support.waiting import cancelled, receiving, turns

Freeze = Callable[[], AbstractContextManager[Any]]

FREEZERS: dict[str, Freeze] = {
    "freezegun": lambda: freezegun.freeze_time("2012-01-14"),
    "freezegun-tick": lambda: freezegun.freeze_time("2012-01-14", tick=True),
    "freezegun-future": lambda: freezegun.freeze_time("2150-01-14"),
    "time-machine": lambda: time_machine.travel("2012-01-14", tick=False),
}
PATHS = ("each-path", "hybrid-local", "hybrid-pubsub-3")

freezers = pytest.mark.parametrize(
    "freezer",
    [
        "freezegun",
        "freezegun-tick",
        pytest.param("freezegun-future", marks=pytest.mark.thorough),
        pytest.param("time-machine", marks=pytest.mark.thorough),
    ],
)


def run(main: Callable[[], Any]) -> None:
    """Without a limit of asyncio's, whose clock is frozen; pytest has one."""
    with asyncio.Runner() as runner:
        runner.run(main())


class Stream:
    """Numbered messages to a normal channel, a process-specific one, and members of a group, and their readers."""

    def __init__(self, layer: Any, sender: Any) -> None:
        self.layer = layer
        self.sender = sender
        self.sent = 0
        self.channels: list[str] = []

    async def start(self) -> None:
        self.channels = ["normal", *[await self.layer.new_channel() for _ in range(2)], "grouped"]
        for channel in self.channels[2:]:
            await self.layer.group_add("g", channel)

    async def send(self, number: int) -> None:
        for _ in range(number):
            for channel in self.channels[:2]:
                await self.sender.send(channel, {"n": self.sent})
            await self.sender.group_send("g", {"n": self.sent})
            self.sent += 1

    async def receive(self, first: int, number: int) -> None:
        for channel in self.channels:
            assert [(await self.layer.receive(channel))["n"] for _ in range(number)] == [*range(first, first + number)]


@freezers
@pytest.mark.configurations(*PATHS)
@pytest.mark.timeout(40)
def test_nothing_is_lost_or_reordered(make_layer: LayerMaker, freezer: str) -> None:
    layer, sender = make_layer(), make_layer()
    freeze = FREEZERS[freezer]

    async def main() -> None:
        stream = Stream(layer, sender)
        await stream.start()
        await stream.send(3)
        await stream.receive(0, 1)
        (waiting,) = await receiving(layer, "awaited")
        with freeze():
            await stream.send(3)
            await stream.receive(1, 3)
            await sender.send("awaited", {"n": 0})
            assert await waiting == {"n": 0}
            waiting = asyncio.create_task(layer.receive("awaited"))
            await sleep(0.1)  # the loop's clock stands still, and so does every wait that uses it
        await stream.send(3)
        await stream.receive(4, 5)
        await sender.send("awaited", {"n": 1})
        assert await waiting == {"n": 1}
        counters = await layer.statistics()
        assert not any(counters[reason] for reason in ("expired", "dead", "full", "slow"))
        for each in (layer, sender):
            await each.close()

    run(main)


@freezers
@pytest.mark.configurations("each-path")
@pytest.mark.timeout(40)
def test_what_is_old_expires_meanwhile(make_layer: LayerMaker, freezer: str) -> None:
    layer = make_layer(expiry=0.3)

    async def main() -> None:
        name = await layer.new_channel()
        with FREEZERS[freezer]():
            for channel in ("normal", name):
                await layer.send(channel, {"n": "old"})
            await sleep(0.5)  # longer than the expiry
            for channel in ("normal", name):
                await layer.send(channel, {"n": "new"})
                assert await layer.receive(channel) == {"n": "new"}
        await layer.close()

    run(main)


@freezers
@pytest.mark.configurations("hybrid-local", "queue-1")
@pytest.mark.timeout(40)
def test_a_cancelled_receiver_leaves_what_comes(make_layer: LayerMaker, freezer: str) -> None:
    """Its reader stops although asyncio's timers do not fire; a reader that starts meanwhile continues afterwards."""
    layer = make_layer()

    async def main() -> None:
        name = await layer.new_channel()
        with FREEZERS[freezer]():
            for _ in range(3):
                for channel in ("normal", name):
                    waiting = asyncio.create_task(layer.receive(channel))
                    await sleep(0.02)  # until it waits; a loop that polls would stand still
                    await cancelled(waiting)
            await sleep(0.2)  # longer than a pop lasts without a waiter
            for channel in ("normal", name):
                await layer.send(channel, {"n": 1})
        for channel in ("normal", name):
            assert await layer.receive(channel) == {"n": 1}
        await layer.close()

    run(main)


@pytest.fixture
def stopped_server(new_server: NewServer) -> Server:
    """A server that accepts connections and does not answer."""
    return new_server()


@freezers
@pytest.mark.configurations("queue-1", "pubsub-1")
@pytest.mark.timeout(40)
def test_calls_end_within_the_timeout(make_layer: LayerMaker, stopped_server: Server, freezer: str) -> None:
    """Those of the I/O thread, those of a loop that stays, and those that were begun before the time was frozen."""
    layer = make_layer(hosts=[stopped_server.url], timeout=0.6)

    async def main() -> None:
        for _ in range(25):  # the loop stays
            await layer.send("normal", {"n": 1})
        stopped_server.pause()
        begun = [asyncio.create_task(layer.send("normal", {}))]
        await turns()
        with FREEZERS[freezer]():
            begun.append(asyncio.create_task(layer.send("normal", {})))
            await asyncio.wait(begun)
            assert all(isinstance(task.exception(), RemoteUnavailable) for task in begun)
        stopped_server.resume()
        await layer.send("normal", {"n": 1})
        await layer.close()

    run(main)
    stopped_server.pause()
    with FREEZERS[freezer]():
        began = time.perf_counter()
        with pytest.raises(RemoteUnavailable):
            async_to_sync(layer.send)("normal", {})
    assert time.perf_counter() - began < 5 or freezer != "time-machine"
    stopped_server.resume()
    make_layer.layers.clear()
