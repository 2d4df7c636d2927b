"""Readers that start, end and let their loop run, where no housekeeping finds a missed message."""

from __future__ import annotations

import asyncio
import random
import threading
from unittest.mock import Mock

import msgpack
import pytest

from hybrid_layer.ipc import IPCChannelLayer, _core
from tests.ipc.tools import flushed, layer_of
from tests.support.loops import run
from tests.support.probe import only_woken, probe, turns_of_a_loop
from tests.support.waiting import any_moment, receiving, turns, wait_until


@pytest.fixture(autouse=True)
def unaided(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake that is missing stays missing."""
    only_woken(monkeypatch, 60.0)


@pytest.mark.parametrize("kind", ["normal", "specific"])
@pytest.mark.parametrize("readers", [2, 5])
def test_readers_of_one_backlog(prefix: str, kind: str, readers: int) -> None:
    """Each leaves to the others what it did not take."""
    layer = layer_of(prefix, capacity=400)

    async def main() -> None:
        name = await layer.new_channel() if kind == "specific" else "work"
        for n in range(400):
            await layer.send(name, {"n": n})
        got: list[int] = []

        async def read() -> None:
            while True:
                got.append((await layer.receive(name))["n"])

        reading = [asyncio.create_task(read()) for _ in range(readers)]
        await wait_until(lambda: len(got) == 400, "all messages have come", 10)
        assert got == list(range(400))
        for task in reading:
            task.cancel()

    with flushed(layer):
        run(main())


def test_who_comes_later_does_not_overtake(prefix: str) -> None:
    """Also if it comes when it is the loop's turn, after many messages of another channel."""
    layer = layer_of(prefix)

    async def main() -> None:
        (older,) = await receiving(layer, "work")
        for n in range(turns_of_a_loop()):
            await layer.send("other", {"n": n})
            await layer.receive("other")
        newer = asyncio.create_task(layer.receive("work"))
        await turns()
        for n in range(2):
            await layer.send("work", {"n": n})
        assert [await asyncio.wait_for(task, 5) for task in (older, newer)] == [{"n": 0}, {"n": 1}]

    with flushed(layer):
        run(main())


def test_a_busy_segment_is_no_promise_to_wake(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that could not look is not registered, and wakes the next one itself."""
    layer = layer_of(prefix)

    async def main() -> None:
        await layer.send("other", {"n": 0})
        await layer.receive("other")
        segment = probe(layer).segment
        core = segment.core
        refusals = [None]

        def pop(channel: str, loop: int) -> object:
            if refusals:
                refusals.pop()
                raise _core.Busy
            return core.pop(channel, loop)

        monkeypatch.setattr(segment, "core", Mock(wraps=core, pop=pop, rebuilds=core.rebuilds))
        readers = [asyncio.create_task(layer.receive("work")) for _ in range(2)]
        await turns()
        for n in range(2):
            core.push("work", "", msgpack.packb({"n": n}), 10, 10**10)
        assert [await asyncio.wait_for(reader, 5) for reader in readers] == [{"n": 0}, {"n": 1}]
        monkeypatch.undo()

    with flushed(layer):
        run(main())


class Crowd:
    """Readers of two channels in two loops, cancelled at any moment."""

    def __init__(self, layer: IPCChannelLayer, seed: int) -> None:
        self.layer = layer
        self.dice = random.Random(seed)
        self.sent = {"a": 0, "b": 0}
        self.got: dict[str, list[int]] = {"a": [], "b": []}
        self.goes = threading.Event()

    async def send(self, name: str) -> None:
        await self.layer.send(name, {"n": self.sent[name]})
        self.sent[name] += 1

    async def read(self, name: str, times: int) -> None:
        for _ in range(times):
            self.got[name].append((await self.layer.receive(name))["n"])
            if self.dice.random() < 0.05:
                await turns()

    async def come_and_go(self) -> None:
        dice = self.dice
        reading: list[asyncio.Task[None]] = []
        while not self.goes.is_set():
            reading = [task for task in reading if not task.done()]
            if len(reading) < 6:
                reading.append(asyncio.create_task(self.read(dice.choice("ab"), dice.randrange(1, 60))))
            if dice.random() < 0.3:
                dice.choice(reading).cancel()
            await any_moment(dice.choice([0, 0, 0, 0.002]), dice)
        for task in reading:
            task.cancel()

    def has_all(self) -> bool:
        return all(sorted(self.got[name]) == list(range(self.sent[name])) for name in "ab")


@pytest.mark.parametrize("seed", range(20))
def test_readers_that_come_and_go(prefix: str, seed: int) -> None:
    """The channels are full at one time and empty at another."""
    layer = layer_of(prefix, capacity=3000)
    crowd = Crowd(layer, seed)

    async def main() -> None:
        other = threading.Thread(target=lambda: asyncio.run(crowd.come_and_go()))
        other.start()
        coming = asyncio.create_task(crowd.come_and_go())
        for _ in range(60):
            name = crowd.dice.choice("ab")
            for _ in range(crowd.dice.choice([1, 1, 40])):
                await crowd.send(name)
            await any_moment(crowd.dice.choice([0, 0.002]), crowd.dice)
        crowd.goes.set()
        await coming
        await asyncio.to_thread(other.join)
        staying = [asyncio.create_task(crowd.read(name, 10_000)) for name in "ab" for _ in range(3)]
        await wait_until(crowd.has_all, "all messages have come", 10)
        for name in "ab":
            await crowd.send(name)
        await wait_until(crowd.has_all, "all messages have come", 10)
        for task in staying:
            task.cancel()

    with flushed(layer):
        run(main())
