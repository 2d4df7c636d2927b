"""One layer object, many event loops and threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from hybrid_layer.loops import leave_pending
from tests.contract.configurations import LayerMaker
from tests.contract.tools import (
    assert_silent,
    cancel,
    kinds,
    new_channel,
    receive,
    receive_numbers,
    send_numbers,
)
from tests.support.loops import LoopKind, run
from tests.support.servers import Server
from tests.support.waiting import any_moment, at_rest, receiving, turns, wait_until


class LoopInThread:
    """An event loop that runs in a thread of its own until the block ends."""

    def __init__(self, kind: LoopKind = "asyncio") -> None:
        self._kind = kind
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: run(self._main(), loop=kind))

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._ready.set()
        await self._end.wait()

    def start(self, coroutine: Any) -> asyncio.Future[Any]:
        """Run `coroutine` there; the future belongs to the calling loop."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def __enter__(self) -> LoopInThread:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()


async def test_server_loop_eight_sync_threads_and_a_second_loop(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=2000)
    channel = await layer.new_channel()
    seen: list[tuple[str, Any]] = []

    async def reader(name: str) -> None:
        while True:
            seen.append((name, (await layer.receive(name))["n"]))

    def sync_thread(me: int) -> None:
        for n in range(20):
            async_to_sync(layer.send)(channel, {"n": (me, n)})
            async_to_sync(layer.send)("jobs", {"n": (me, n)})
            async_to_sync(layer.group_send)("room", {"n": (me, n)})

    async def second_loop() -> tuple[list[Any], int]:
        own = await layer.new_channel()
        await layer.group_add("room", own)
        joined.set()
        messages = [(await layer.receive(own))["n"] for _ in range(160)]
        for n in range(20):
            await layer.send(channel, {"n": ("loop", n)})
            await layer.send("jobs", {"n": ("loop", n)})
        jobs = 0
        try:
            async with asyncio.timeout(0.3):
                while True:
                    await layer.receive("jobs")
                    jobs += 1
        except TimeoutError:
            return messages, jobs

    joined = threading.Event()
    with LoopInThread() as other, ThreadPoolExecutor(8) as threads:
        readers = [asyncio.create_task(reader(name)) for name in (channel, "jobs")]
        elsewhere = other.start(second_loop())
        assert await asyncio.to_thread(joined.wait, 5)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(threads, sync_thread, me) for me in range(8)))
        messages, jobs_elsewhere = await elsewhere

        async def all_seen() -> bool:
            return len(seen) + jobs_elsewhere >= 360

        await wait_until(all_seen, "all messages have come")
        for task in readers:
            await cancel(task)
    assert_complete([n for name, n in seen if name == channel], [*range(8), "loop"])
    assert_complete(messages, list(range(8)))
    assert len([n for name, n in seen if name == "jobs"]) + jobs_elsewhere == 180


def assert_complete(numbers: list[Any], senders: list[Any]) -> None:
    """All 20 messages of each sender, in its order, and none twice."""
    for me in senders:
        assert [n for sender, n in numbers if sender == me] == list(range(20))
    assert len(numbers) == 20 * len(senders)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_one_loop_after_another(make_layer: LayerMaker, loop: LoopKind) -> None:
    """Built with no loop running, as at import time; then pytest's loop per test, `asyncio.run`, `async_to_sync`."""
    layer = make_layer()
    channel = run(layer.new_channel(), loop=loop)
    for n in range(5):
        run(layer.send("normal", {"n": n}), loop=loop)
        run(layer.send(channel, {"n": n}), loop=loop)
        assert run(receive(layer, "normal"), loop=loop) == {"n": n}
        assert run(receive(layer, channel), loop=loop) == {"n": n}
    assert async_to_sync(layer.statistics)()["received"] == 10


def test_sync_code_receives(make_layer: LayerMaker) -> None:
    layer = make_layer()
    channel = async_to_sync(layer.new_channel)()
    for n in range(5):
        async_to_sync(layer.send)(channel, {"n": n})
        async_to_sync(layer.send)("normal", {"n": n})
        assert async_to_sync(receive)(layer, channel) == {"n": n}
        assert async_to_sync(receive)(layer, "normal") == {"n": n}


@kinds
async def test_sync_code_under_a_running_loop(make_layer: LayerMaker, kind: str) -> None:
    """A sync view: a thread of the server, in which `async_to_sync` uses the server's loop."""
    layer = make_layer()
    channel = await new_channel(layer, kind)
    waiting = asyncio.create_task(receive_numbers(layer, channel, 40))

    @sync_to_async
    def view() -> None:
        for n in range(40):
            async_to_sync(layer.send)(channel, {"n": n})

    await view()
    assert await waiting == list(range(40))


@kinds
async def test_loops_of_two_threads_wait_on_one_channel(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(capacity=1000)
    channel = await new_channel(layer, kind)
    shares: dict[str, list[int]] = {"here": [], "there": []}

    async def reader(me: str) -> None:
        while True:
            shares[me].append((await layer.receive(channel))["n"])

    async def stoppable(me: str) -> None:
        task = asyncio.create_task(reader(me))
        await asyncio.to_thread(done.wait, 60)
        await cancel(task)

    done = threading.Event()
    with LoopInThread() as other:
        elsewhere = other.start(stoppable("there"))
        here = asyncio.create_task(reader("here"))
        await at_rest(layer, channel)
        for n in range(500):
            await layer.send(channel, {"n": n})
            if n % 25 == 0:
                await any_moment(0.004)

        async def all_read() -> bool:
            return sum(map(len, shares.values())) == 500

        await wait_until(
            all_read, "all messages have come", 20
        )  # on a busy machine each change of threads takes its 5 ms
        done.set()
        await elsewhere
        await cancel(here)
    assert sorted(shares["here"] + shares["there"]) == list(range(500))
    for share in shares.values():
        assert share == sorted(share)


async def test_each_loop_gets_what_it_waits_for(make_layer: LayerMaker) -> None:
    layer = make_layer()
    here, there = await layer.new_channel(), await layer.new_channel()
    with LoopInThread() as other:
        elsewhere = other.start(receive_numbers(layer, there, 50))
        waiting = asyncio.create_task(receive_numbers(layer, here, 50))
        await at_rest(layer, here)
        await other.start(at_rest(layer, there))
        for n in range(50):
            await layer.send(there, {"n": n})
            await layer.send(here, {"n": n})
        assert await waiting == list(range(50))
        async with asyncio.timeout(5):
            assert await elsewhere == list(range(50))


@kinds
async def test_reader_of_one_loop_cancelled_the_other_goes_on(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    with LoopInThread() as other:
        for n in range(10):
            here = asyncio.create_task(receive(layer, channel))
            await at_rest(layer, channel)
            elsewhere = other.start(receive(layer, channel))
            await other.start(at_rest(layer, channel))
            await cancel(here)
            await layer.send(channel, {"n": n})
            assert (await elsewhere)["n"] == n
            task = await other.start(started(receive(layer, channel)))
            await other.start(at_rest(layer, channel))
            here = asyncio.create_task(receive(layer, channel))
            await at_rest(layer, channel)
            await other.start(cancel(task))
            await layer.send(channel, {"n": n})
            assert (await here)["n"] == n


@kinds
async def test_reader_of_another_loop_cancelled_as_its_message_arrives(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer()
    channel = await new_channel(layer, kind)
    with LoopInThread() as other:
        for n in range(100):
            task = await other.start(started(receive(layer, channel)))
            await any_moment(0.002)
            here = asyncio.create_task(receive(layer, channel))
            await turns()
            cancelling = other.start(cancel(task))
            await layer.send(channel, {"n": n})
            await cancelling
            if not task.cancelled():  # the message was faster; then here waits for the next
                assert task.result()["n"] == n
                await layer.send(channel, {"n": n})
            assert (await here)["n"] == n


async def started(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task of the loop in which this runs."""
    return asyncio.create_task(coroutine)


@kinds
def test_loop_that_ended_without_farewell(make_layer: LayerMaker, kind: str) -> None:
    """A loop that is closed while a coroutine waits in it delays no message, and loses at most what it popped."""
    layer = make_layer()
    channel = run(new_channel(layer, kind))
    abandoned = []

    async def send_and_receive() -> None:
        await layer.send(channel, {"n": "first"})
        assert await layer.receive(channel) == {"n": "first"}

    for n in range(3):
        loop = asyncio.new_event_loop()
        # Its connections are open then: asyncio itself complains of one that is just being opened.
        loop.run_until_complete(send_and_receive())
        task = loop.create_task(layer.receive(channel))
        loop.run_until_complete(at_rest(layer, channel))
        loop.close()
        # As a killed thread would leave it. The test keeps it and silences it: asyncio would warn of it.
        leave_pending(task)
        abandoned.append(task)
        for number in (n, n + 100):
            run(layer.send(channel, {"n": number}))
        first = run(receive(layer, channel))
        if first == {"n": n}:
            assert run(receive(layer, channel)) == {"n": n + 100}
        else:
            # The server gave it to the pop that was under way, which ended with its loop.
            assert make_layer.configuration.is_remote(kind)
            assert first == {"n": n + 100}
        del task
    abandoned.clear()
    gc.collect()  # coroutines that are closed when their loop is gone do not complain


@kinds
def test_loop_that_was_cancelled_from_outside(make_layer: LayerMaker, kind: str) -> None:
    """`asyncio.run` cancels the coroutines that still wait; the next loop gets the messages."""
    layer = make_layer()
    channel = run(new_channel(layer, kind))

    async def leave_it_waiting() -> asyncio.Task[Any]:
        (task,) = await receiving(layer, channel)
        return task

    for n in range(10):
        assert run(leave_it_waiting()).cancelled()
        run(layer.send(channel, {"n": n}))
        assert run(receive(layer, channel)) == {"n": n}


@pytest.mark.configurations("hybrid", "queue")
def test_sync_senders_open_no_connection_for_each_call(make_layer: LayerMaker, servers: list[Server]) -> None:
    layer = make_layer()
    channel = async_to_sync(layer.new_channel)()
    used = servers[: make_layer.configuration.hosts]

    def connections() -> int:
        return sum(server.command("INFO", "stats")["total_connections_received"] for server in used)

    async_to_sync(layer.send)(channel, {"n": 0})
    before = connections()
    threads = ThreadPoolExecutor(4)
    list(threads.map(lambda n: async_to_sync(layer.group_send)("room", {"n": n}), range(200)))
    list(threads.map(lambda n: async_to_sync(layer.group_add)("room", channel), range(200)))
    threads.shutdown()
    opened = connections() - before - len(used)  # each look opens one itself
    assert opened <= 4 * len(used)


@pytest.mark.parametrize("call", ["send", "group_send", "group_add", "statistics"])
def test_threads_at_once_with_asyncio_run(make_layer: LayerMaker, call: str) -> None:
    """`asyncio.run` in threads, which start and end their loops under each other."""
    layer = make_layer(capacity=1000)
    channel = run(layer.new_channel())
    arguments: dict[str, Callable[[int], tuple[Any, ...]]] = {
        "send": lambda n: (channel, {"n": n}),
        "group_send": lambda n: ("room", {"n": n}),
        "group_add": lambda n: (f"room.{n % 3}", channel),
        "statistics": lambda n: (),
    }
    run(layer.group_add("room", channel))
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda n: asyncio.run(getattr(layer, call)(*arguments[call](n))), range(60)))

    async def look() -> None:
        if call in ("send", "group_send"):
            assert sorted(await receive_numbers(layer, channel, 60)) == list(range(60))
        elif call == "group_add":
            for n in range(3):
                await layer.group_send(f"room.{n}", {"n": n})
            assert await receive_numbers(layer, channel, 3) == [0, 1, 2]
        await assert_silent(layer, channel, 0.05)
        await send_numbers(layer, channel, range(3))
        assert await receive_numbers(layer, channel, 3) == [0, 1, 2]

    run(look())
