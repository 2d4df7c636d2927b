"""What a process has open, and how much it asks of the server."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.loops import leave_pending
from hybrid_layer.remote.runtime import io_thread
from tests.remote.tools import Make, refused
from tests.support.loops import Run
from tests.support.servers import NewServer, Server
from tests.support.waiting import cancelled, receiving, turns


@pytest.fixture
def own(new_server: NewServer) -> Server:
    """A server for this test alone."""
    return new_server()


def connections_received(server: Server) -> int:
    """How many connections the server has seen; this call makes one of them."""
    return int(server.command("INFO", "stats")["total_connections_received"])


def connected(server: Server) -> int:
    """How many clients are connected, besides the one that asks."""
    return int(server.command("INFO", "clients")["connected_clients"]) - 1


def calls(server: Server) -> dict[str, int]:
    """How often each command was called by clients; those within scripts have another name."""
    stats: dict[str, Any] = server.command("INFO", "commandstats")
    return {name.removeprefix("cmdstat_"): int(values["calls"]) for name, values in stats.items()}


def test_no_connection_per_async_to_sync_call(own: Server, make_layer: Make) -> None:
    layer = make_layer(hosts=[own.url])
    async_to_sync(layer.send)("jobs", {"n": -1})
    before = connections_received(own)
    for n in range(50):
        async_to_sync(layer.send)("jobs", {"n": n})
    assert connections_received(own) == before + 1  # the question
    assert connected(own) == 1


def test_a_loop_that_sends_often_gets_a_connection_of_its_own(own: Server, make_layer: Make, run: Run) -> None:
    layer = make_layer(hosts=[own.url])

    async def main() -> None:
        for n in range(15):
            await layer.send("jobs", {"n": n})
        assert connected(own) == 1
        for n in range(15, 30):
            await layer.send("jobs", {"n": n})
        assert connected(own) == 2

    run(main())
    assert connected(own) == 1


def test_bound_of_a_process(own: Server, make_layer: Make, run: Run) -> None:
    """A living loop: a sender and a reader of normal channels. The process: one inbox reader, one of the I/O thread."""
    layer = make_layer(hosts=[own.url], capacity=1000)

    async def main() -> None:
        names = [await layer.new_channel() for _ in range(20)] + [f"normal.{n}" for n in range(20)]
        waiting = await receiving(layer, *names)
        await asyncio.gather(*(layer.send(names[n % 40], {"n": n}) for n in range(400)))
        assert [(await task)["n"] for task in waiting] == list(range(40))
        assert connected(own) <= 4
        await layer.close()

    run(main())
    assert connected(own) == 1


def test_a_loop_that_ends_closes_its_connections(own: Server, make_layer: Make, run: Run) -> None:
    layer = make_layer(hosts=[own.url])

    async def main() -> None:
        name = await layer.new_channel()
        tasks = await receiving(layer, name, "normal")
        await layer.send("other", {})
        for task in tasks:
            task.cancel()

    for _ in range(3):
        run(main())
        assert connected(own) == 1


async def test_at_most_two_commands_per_message(own: Server, make_layer: Make) -> None:
    layer = make_layer(hosts=[own.url], block_time=10)

    async def exchange(sent: list[str], count: int) -> None:
        for n in range(count):
            for channel in sent:
                (waiting,) = await receiving(layer, channel)
                await layer.send(channel, {"n": n})
                assert (await waiting)["n"] == n

    channels = ["normal", await layer.new_channel()]
    await exchange(channels, 3)
    before = calls(own)
    await exchange(channels, 100)
    after = calls(own)
    inside = ("time", "get", "mget", "llen", "rpush", "pttl", "pexpire", "info", "config", "lindex", "set")
    clients = {name: after[name] - before.get(name, 0) for name in after if name.partition("|")[0] not in inside}
    assert clients["evalsha"] <= 202
    assert sum(clients.values()) <= 2 * 200 + 10, clients


async def test_sends_of_one_turn_go_out_in_order(make_layer: Make) -> None:
    layer = make_layer(capacity=500)
    await asyncio.gather(*(layer.send("normal", {"n": n}) for n in range(500)))
    assert [(await layer.receive("normal"))["n"] for _ in range(500)] == list(range(500))


async def test_sends_keep_their_order_while_a_loop_turns_out_to_stay(make_layer: Make) -> None:
    """From then on it has a connection of its own, which must not overtake commands of the I/O thread."""
    layer = make_layer(capacity=500)
    await layer.send("other", {})
    io_thread.current().call_soon(lambda: time.sleep(0.3))  # is busy while this loop sends over its own connection
    sends = []
    for n in range(20):
        sends.append(asyncio.create_task(layer.send("normal", {"n": n})))
        if n == 10:
            await turns()  # so far, on their way
            await layer.receive("other")  # so it stays
    await asyncio.gather(*sends)
    assert [(await layer.receive("normal"))["n"] for _ in range(20)] == list(range(20))


async def test_a_send_that_is_cancelled_before_its_turn_is_not_sent(make_layer: Make) -> None:
    layer = make_layer()
    (waiting,) = await receiving(layer, "ready")
    await layer.send("ready", {})
    await waiting
    task = asyncio.create_task(layer.send("normal", {"n": 1}))
    await turns()
    await cancelled(task)
    await layer.send("normal", {"n": 2})
    assert (await layer.receive("normal"))["n"] == 2


async def test_scripts_that_the_server_forgot_are_loaded_again(own: Server, make_layer: Make) -> None:
    layer = make_layer(hosts=[own.url])
    await layer.send("normal", {"n": 1})
    own.command("SCRIPT", "FLUSH")
    await layer.send("normal", {"n": 2})
    assert [(await layer.receive("normal"))["n"] for _ in range(2)] == [1, 2]


def test_loops_in_threads_use_one_layer_at_once(own: Server, make_layer: Make) -> None:
    layer = make_layer(hosts=[own.url], capacity=1000)

    def work(number: int) -> None:
        for n in range(25):
            async_to_sync(layer.send)(f"thread.{number}", {"n": n})
        for n in range(25):
            assert async_to_sync(layer.receive)(f"thread.{number}") == {"n": n}

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert connected(own) == 1


def test_a_loop_that_is_closed_while_a_connection_opens_leaves_no_complaint(make_layer: Make, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.setblocking(False)
        layer = make_layer(hosts=[deaf.getsockname()], timeout=0.1)

        async def until_greeted() -> socket.socket:
            loop = asyncio.get_running_loop()
            accepted, _ = await loop.sock_accept(deaf)
            assert await loop.sock_recv(accepted, 100)
            return accepted

        loop = asyncio.new_event_loop()
        task = loop.create_task(layer.receive("normal"))
        with loop.run_until_complete(until_greeted()):
            loop.close()
            leave_pending(task)  # the test's own
            run(refused(layer, "no connection within"))  # the next loop finds the one that is closed
            del task
            gc.collect()
