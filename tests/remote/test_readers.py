"""Readers: hand-over between loops, cancelled receives, what goes back, the wake key, order, exactly once."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from tests.remote.tools import WAYS, Make
from tests.support.loops import Run
from tests.support.probe import probe
from tests.support.servers import NewServer, Server
from tests.support.waiting import any_moment, at_rest, cancelled, receiving, turns, until, wait_until


async def channel_of(layer: Any, kind: str) -> str:
    return "normal" if kind == "normal" else str(await layer.new_channel())


kinds = pytest.mark.parametrize("kind", ["normal", "specific"])
loops = pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])


@loops
@kinds
async def test_cancelled_receives_lose_nothing_and_keep_the_order(make_layer: Make, kind: str) -> None:
    layer = make_layer(capacity=5000)
    count = 1500
    channel = await channel_of(layer, kind)

    async def write() -> None:
        for n in range(count):
            await layer.send(channel, {"n": n})

    writing = asyncio.create_task(write())
    got: list[int] = []
    pause = 0
    while len(got) < count:
        pause = (pause + 1) % 7
        task = asyncio.create_task(layer.receive(channel))
        await turns(pause)
        if pause == 6:
            await any_moment(0.002)
        if pause % 2:
            task.cancel()
        try:
            got.append((await task)["n"])
        except asyncio.CancelledError:
            continue
    await writing
    assert got == list(range(count))


@kinds
async def test_a_cancelled_receive_stops_taking_after_a_moment(make_layer: Make, server: Server, kind: str) -> None:
    """The pop that was under way is woken by a push to its wake key; what is sent later stays in its queue."""
    layer = make_layer()
    channel = await channel_of(layer, kind)
    await cancelled(*await receiving(layer, channel))
    await wait_until(lambda: not probe(layer).is_read(channel), "the pop has ended")
    await layer.send(channel, {"n": 1})
    key = f"{layer.prefix}|1|{'queue|normal' if kind == 'normal' else 'inbox|' + channel.partition('!')[0] + '!'}"
    assert server.command("LLEN", key) == 1
    assert await layer.receive(channel) == {"n": 1}


async def test_a_message_whose_reader_left_goes_back_to_the_head(make_layer: Make) -> None:
    layer, other = make_layer(), make_layer()
    for _ in range(20):
        (task,) = await receiving(layer, "normal")
        task.cancel()  # its pop lasts for a moment
        await asyncio.gather(task, return_exceptions=True)
        for n in range(3):
            await layer.send("normal", {"n": n})
        got = [(await asyncio.wait_for(other.receive("normal"), 5))["n"] for _ in range(3)]
        assert sorted(got) == [0, 1, 2]


async def test_messages_of_several_readers_that_left_go_back_in_order(make_layer: Make) -> None:
    layer = make_layer()

    async def send(channel: str) -> None:
        for n in range(3):
            await layer.send(channel, {"n": n})

    for turn in range(120):
        channel = f"normal{turn}"
        readers = [asyncio.create_task(layer.receive(channel)) for _ in range(4)]
        await at_rest(layer, channel)
        sending = asyncio.create_task(send(channel))
        until = time.perf_counter() + 0.0002 * (turn % 15)
        while time.perf_counter() < until:  # any point between send and receive
            await turns()
        for reader in readers:
            reader.cancel()
        ended = await asyncio.gather(*readers, return_exceptions=True)
        await sending
        got = [result["n"] for result in ended if isinstance(result, dict)]
        while len(got) < 3:
            got.append((await asyncio.wait_for(layer.receive(channel), 5))["n"])
        assert got == [0, 1, 2]


@kinds
async def test_another_channel_is_read_at_once_while_a_pop_is_under_way(make_layer: Make, kind: str) -> None:
    layer = make_layer(block_time=10)
    (first,) = await receiving(layer, await channel_of(layer, kind))
    second_name = "second" if kind == "normal" else await layer.new_channel("other")
    second = asyncio.create_task(layer.receive(second_name))
    await layer.send(second_name, {"n": 2})
    assert await asyncio.wait_for(second, 2) == {"n": 2}
    await cancelled(first)
    async with asyncio.timeout(2):
        await layer.close()


def test_reading_moves_to_another_loop(make_layer: Make, run: Run) -> None:
    """The first loop reads for all; when it ends, with a pop under way, the next one takes over."""
    layer = make_layer(block_time=10)
    names: list[str] = []
    waits, ends, received = threading.Event(), threading.Event(), threading.Event()

    async def first() -> None:
        names.extend([await layer.new_channel(), await layer.new_channel()])
        (waiting,) = await receiving(layer, names[0])
        waits.set()
        await asyncio.to_thread(ends.wait, 10)
        waiting.cancel()

    async def second() -> None:
        (task,) = await receiving(layer, names[1])
        ends.set()
        await asyncio.to_thread(thread.join, 10)
        await layer.send(names[1], {"n": 1})
        assert await asyncio.wait_for(task, 3) == {"n": 1}
        received.set()

    thread = threading.Thread(target=lambda: asyncio.run(first()))
    thread.start()
    assert waits.wait(5)
    run(second())
    thread.join()
    assert received.is_set()


def test_a_stopped_loop_does_not_keep_the_reading(make_layer: Make, run: Run) -> None:
    """A loop that is not closed and not run, as between two calls of run_until_complete."""
    layer = make_layer(block_time=10)
    stopped = asyncio.new_event_loop()
    name = stopped.run_until_complete(layer.new_channel())
    other = stopped.run_until_complete(layer.new_channel())
    waiting = stopped.create_task(layer.receive(name))
    stopped.run_until_complete(at_rest(layer, name))

    async def main() -> None:
        (task,) = await receiving(layer, other)
        for n in range(3):
            await layer.send(other, {"n": n})
        got = [await asyncio.wait_for(task, 5)]
        got += [await asyncio.wait_for(layer.receive(other), 5) for _ in range(1)]
        assert got

    try:
        run(main())
    finally:
        waiting.cancel()
        stopped.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
        stopped.run_until_complete(layer.close())
        stopped.run_until_complete(stopped.shutdown_asyncgens())
        stopped.close()


async def test_a_slow_consumer_does_not_lose_what_fits(make_layer: Make, server: Server) -> None:
    """Two consumers of one process, one of them slow: reading for the other must not overfill its buffer."""
    layer = make_layer(capacity=50)
    taken = 1 if server.kind == "redis-6.2" else 30  # which cannot pop in batches
    name = await layer.new_channel()
    got = []
    for start in range(0, 500, 25):
        for n in range(start, start + 25):
            await layer.send(name, {"n": n})
        got += [(await layer.receive(name))["n"] for _ in range(25)]
    for n in range(500, 550):
        await layer.send(name, {"n": n})
    got.append((await layer.receive(name))["n"])  # a batch is in the buffer now
    for n in range(550, 550 + taken):
        await layer.send(name, {"n": n})
    got += [(await layer.receive(name))["n"] for _ in range(49 + taken)]
    assert got == list(range(550 + taken))
    assert (await layer.statistics())["slow"] == 0


async def test_an_idle_receiver_outlives_the_clients_default_timeout(make_layer: Make) -> None:
    """redis-py 8 ends a read after 5 s by default."""
    layer = make_layer(block_time=20)
    name = await layer.new_channel()
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in ("normal", name)]
    await until(time.monotonic() + 5.5)
    tasks = [str(task.get_coro()) for task in asyncio.all_tasks()]
    assert len([task for task in tasks if "keep_going" in task or "Reader._run" in task]) == 2
    await layer.send("normal", {"n": 1})
    await layer.send(name, {"n": 2})
    assert [await task for task in waiting] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_readers_that_come_and_go_leave_nothing_in_their_loop(make: Make, way: str) -> None:
    """While another receiver keeps the loop's connections open."""
    layer = make(WAYS[way])
    name = await layer.new_channel()
    waiting = asyncio.create_task(layer.receive("normal"))
    for n in range(10):
        (own,) = await receiving(layer, name)
        await layer.send(name, {"n": n})
        assert await own == {"n": n}
        await layer.close()
    await turns()
    assert probe(layer).ends_with_loop <= 1
    await layer.send("normal", {})
    await waiting


async def test_an_idle_inbox_costs_one_command_per_block_time(make_layer: Make, new_server: NewServer) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url], block_time=0.2)
    (waiting,) = await receiving(layer, await layer.new_channel())

    def calls(*commands: str) -> int:
        counts = server.command("INFO", "commandstats")
        return sum(int(counts.get(f"cmdstat_{command}", {"calls": 0})["calls"]) for command in commands)

    pops, times = calls("blmpop", "blpop"), calls("time")
    await wait_until(lambda: calls("blmpop", "blpop") >= pops + 5, "some pops have ended")
    assert calls("time") == times
    await cancelled(waiting)
