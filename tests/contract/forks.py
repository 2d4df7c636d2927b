"""What `test_fork` runs in second processes: programs that build a layer, fork, and continue in parent and children."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import HybridLayerError
from tests.contract.peers import build
from tests.support.forked import WAYS, fork, quiet_forks, wait_for
from tests.support.process_main import Parent
from tests.support.waiting import receiving


async def exchange(layer: Any) -> None:
    """Every call once, from this process to itself."""
    channel = await layer.new_channel()
    await layer.group_add(f"own.{os.getpid()}", channel)
    await layer.send(channel, {"n": 1})
    await layer.group_send(f"own.{os.getpid()}", {"n": 2})
    await layer.send(f"own.{os.getpid()}", {"n": 3})
    async with asyncio.timeout(5):
        assert sorted([(await layer.receive(channel))["n"] for _ in range(2)]) == [1, 2]
        assert (await layer.receive(f"own.{os.getpid()}"))["n"] == 3
    await layer.group_discard(f"own.{os.getpid()}", channel)


def directly(parent: Parent, spec: dict[str, Any], used: str, way: str) -> None:
    """Forks with a layer that was only built, or used in a loop that ended, or by sync code."""
    layer = build(spec)
    fork = WAYS[way]
    if used == "in a loop":
        asyncio.run(exchange(layer))
    elif used == "by sync code":
        async_to_sync(exchange)(layer)
    mine = async_to_sync(layer.new_channel)() if used != "only built" else None
    if mine is not None:  # that we may read it is remembered, by us
        async_to_sync(layer.send)(mine, {"n": 0})
        assert async_to_sync(layer.receive)(mine) == {"n": 0}

    def child() -> None:
        async def main() -> None:
            own = await layer.new_channel()
            if mine is not None:
                assert own.partition("!")[0] != mine.partition("!")[0]
                try:
                    async with asyncio.timeout(2):
                        await layer.receive(mine)
                except HybridLayerError:
                    await layer.send(mine, {"reply": own})
                else:
                    raise AssertionError("the child reads its parent's messages")
            else:
                await layer.send("to.parent", {"reply": own})
            async with asyncio.timeout(5):
                assert (await layer.receive(own))["n"] == "welcome"
            await exchange(layer)

        asyncio.run(main())

    pids = [fork(child) for _ in range(3)]

    async def main() -> None:
        for _ in pids:
            async with asyncio.timeout(5):
                message = await layer.receive(mine or "to.parent")
            await layer.send(message["reply"], {"n": "welcome"})
        await exchange(layer)

    asyncio.run(main())
    for pid in pids:
        wait_for(pid)
    asyncio.run(exchange(layer))
    # And again, now that the children are gone.
    wait_for(fork(lambda: asyncio.run(exchange(layer))))
    asyncio.run(exchange(layer))


def preloaded(parent: Parent, spec: dict[str, Any], workers: int, jobs: int) -> list[list[int]]:
    """As gunicorn --preload: the application is loaded and the layer used once, then workers are forked that serve."""
    layer = build(spec)
    async_to_sync(layer.send)("warm.up", {"n": 0})
    results = [multiprocessing.Pipe() for _ in range(workers)]

    def serve(index: int) -> None:
        async def main() -> list[int]:
            own = await layer.new_channel()
            await layer.group_add("room", own)
            results[index][1].send(own)
            share = []
            async with asyncio.timeout(15):
                while (job := await layer.receive("jobs"))["n"] is not None:
                    share.append(job["n"])
                assert (await layer.receive(own))["n"] == "to the group"
            await layer.close()
            return share

        results[index][1].send(asyncio.run(main()))

    pids = [fork(partial(serve, index)) for index in range(workers)]
    names = {theirs.recv() for theirs, _ in results}
    assert len(names) == workers

    async def main() -> None:
        await layer.group_send("room", {"n": "to the group"})
        for n in range(jobs):
            await layer.send("jobs", {"n": n})
        for _ in range(workers):
            await layer.send("jobs", {"n": None})

    asyncio.run(main())
    shares = [theirs.recv() for theirs, _ in results]
    for pid in pids:
        wait_for(pid)
    return shares


_layer: Any = None


def _task(numbers: tuple[str, int]) -> int:
    channel, n = numbers
    async_to_sync(_layer.send)(channel, {"n": n})
    return os.getpid()


def prefork_pool(parent: Parent, spec: dict[str, Any], tasks: int) -> list[int]:
    """As Celery: sync tasks in the processes of a pool send to a channel of the parent."""
    global _layer
    _layer = build(spec)
    channel = async_to_sync(_layer.new_channel)()
    with quiet_forks(), multiprocessing.get_context("fork").Pool(3) as pool:
        pids = pool.map(_task, [(channel, n) for n in range(tasks)], chunksize=1)
        pool.close()
        pool.join()
    assert os.getpid() not in pids

    async def main() -> list[int]:
        async with asyncio.timeout(5):
            numbers = [(await _layer.receive(channel))["n"] for _ in range(tasks)]
        await _layer.close()
        return numbers

    return asyncio.run(main())


def while_waiting(parent: Parent, spec: dict[str, Any]) -> None:
    """Forks out of a running loop in which coroutines wait. Children start and end; the parent keeps waiting."""
    layer = build(spec)

    def child() -> None:
        # A new thread, since in this one the parent's loop is still running, as far as asyncio knows.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(exchange(layer))).result()

    async def main() -> None:
        channel = await layer.new_channel()
        for n in range(3):
            waiting = await receiving(layer, channel, "jobs")
            pid = fork(child)
            await asyncio.to_thread(wait_for, pid)
            await layer.send(channel, {"n": n})
            await layer.send("jobs", {"n": n})
            async with asyncio.timeout(5):
                assert [(await task)["n"] for task in waiting] == [n, n]
        await layer.close()

    asyncio.run(main())


def while_threads_send(parent: Parent, spec: dict[str, Any]) -> None:
    """Forks while other threads are in the middle of calls. No lock that they hold may stay locked in the child."""
    layer = build(spec)
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            asyncio.run(exchange_some(layer))

    with ThreadPoolExecutor(3) as threads:
        sending = [threads.submit(send) for _ in range(3)]
        try:
            for _ in range(15):
                wait_for(fork(lambda: asyncio.run(exchange(layer))))
        finally:
            done.set()
    for each in sending:
        each.result()
    asyncio.run(exchange(layer))


async def exchange_some(layer: Any) -> None:
    name = f"thread.{threading.get_ident()}"
    channel = await layer.new_channel()
    for n in range(20):
        await layer.send(name, {"n": n})
        await layer.send(channel, {"n": n})
    async with asyncio.timeout(5):
        for n in range(20):
            assert (await layer.receive(name))["n"] == n
            assert (await layer.receive(channel))["n"] == n
