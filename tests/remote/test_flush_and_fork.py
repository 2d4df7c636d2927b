"""Flush: what it removes and leaves, and how other processes learn of it. Fork: what a child gives up."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from hybrid_layer.remote import RedisChannelLayer
from hybrid_layer.remote.runtime import io_thread
from tests.remote.tools import WAYS, Make, recovered
from tests.support.loops import Run
from tests.support.probe import io_thread_probe, open_sockets
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import NewServer, Server
from tests.support.waiting import block_until, outlive, receiving, wait_until


async def test_flush_leaves_names_and_liveness(make_layer: Make, server: Server, prefix: str) -> None:
    layer = make_layer()
    name = await layer.new_channel()
    await layer.send(name, {"n": 1})
    await layer.group_add("g", name)
    await layer.flush()
    kinds = {key.split(b"|")[2] for key in server.command("KEYS", f"{prefix}|*")}
    assert kinds <= {b"alive", b"epoch", b"notes", b"wake", b"counts"}
    await layer.send(name, {"n": 2})
    assert await layer.receive(name) == {"n": 2}


@pytest.mark.parametrize("way", ["queue", "pubsub", "hybrid"])
async def test_a_server_that_forgot_a_flush(way: str, make: Make, new_server: NewServer, prefix: str) -> None:
    """A replica may take over that does not know the last flush yet. Messages sent from then on are valid."""
    server = new_server()
    sender, reader = (make(WAYS[way], hosts=[server.url]) for _ in range(2))
    key = f"{prefix}|1|epoch|"
    channels = ["normal", await reader.new_channel(), await reader.new_channel()]
    await reader.flush()
    await reader.flush()
    await reader.group_add("g", channels[2])
    await sender.send("normal", {"n": 0})
    assert await reader.receive("normal") == {"n": 0}
    server.command("SET", key, server.command("GET", key).replace(b":2", b":1"))
    for kind in ("normal", "pubsub"):
        server.command("CLIENT", "KILL", "TYPE", kind)
    await recovered(lambda: reader.group_add("h", channels[2]))  # by pub/sub, once it has subscribed again
    for channel in channels[:2]:
        await recovered(lambda channel=channel: sender.send(channel, {"n": 1}))  # type: ignore[misc]
    await recovered(lambda: sender.group_send("h", {"n": 1}))
    for channel in channels:
        assert await asyncio.wait_for(reader.receive(channel), 5) == {"n": 1}


@pytest.mark.parametrize("value", ["", "x", ":", "x:1e5", "5-5:" + 30 * "9"])
async def test_an_epoch_that_a_stranger_wrote_is_replaced(
    make_layer: Make, server: Server, prefix: str, value: str
) -> None:
    layer = make_layer(expiry=1)
    name = await layer.new_channel()
    server.command("SET", f"{prefix}|1|epoch|", value)
    await wait_until(lambda: server.command("GET", f"{prefix}|1|epoch|") != value.encode(), "the epoch is renewed")
    await layer.send(name, {"n": 1})
    assert await asyncio.wait_for(layer.receive(name), 5) == {"n": 1}


async def fork_and_use(parent: Parent, options: dict[str, Any]) -> list[Any]:
    """Fork with connections open in a loop; use the layer in both processes."""
    layer = RedisChannelLayer(**options)
    name = await layer.new_channel()
    (waiting,) = await receiving(layer, name)
    await layer.send("normal", {"n": 0})
    assert open_sockets()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert not open_sockets()
            asyncio.set_event_loop(None)
            asyncio._set_running_loop(None)

            async def in_child() -> None:
                own = await layer.new_channel()
                assert own.split("!")[0] != name.split("!")[0]
                await layer.send(own, {"n": 1})
                assert await layer.receive(own) == {"n": 1}
                await layer.send(name, {"n": "from the child"})

            asyncio.run(in_child())
            code = 0
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    got = [status, (await waiting)["n"], (await layer.receive("normal"))["n"]]
    await layer.send(name, {"n": 2})
    return [*got, (await layer.receive(name))["n"]]


def test_parent_and_child_after_a_fork(server: Server, prefix: str, spawn: Spawn) -> None:
    process = spawn(fork_and_use, {"hosts": [server.url], "prefix": prefix})
    assert process.result() == [0, "from the child", 0, 2]


def test_the_thread_stops_for_a_fork_and_goes_on(make_layer: Make, run: Run) -> None:
    layer = make_layer(expiry=1)
    name = run(layer.new_channel())
    thread = io_thread.current()
    before = io_thread_probe().thread
    assert before is not None
    thread.before_fork()
    assert not before.is_alive()
    thread.after_fork_in_parent()
    run(outlive(1.4))  # longer than an alive key lives without renewal
    run(layer.send(name, {"n": 1}))  # the alive key was renewed meanwhile
    assert run(layer.receive(name)) == {"n": 1}


def test_a_layer_that_is_garbage_ends_its_keeping(server: Server, prefix: str, run: Run) -> None:
    layer = RedisChannelLayer(hosts=[server.url], prefix=prefix, expiry=1)
    name = run(layer.new_channel())
    key = f"{prefix}|1|alive|{name.partition('!')[0].rpartition('.')[2]}"
    assert server.command("EXISTS", key) == 1
    del layer  # perhaps before the keeping began

    def is_over() -> bool:
        return int(server.command("GET", key).partition(b".")[0]) < server.command("TIME")[0] * 1000

    block_until(is_over, "the key is renewed no longer", 5)


def test_what_runs_in_the_io_thread_does_not_wait_for_who_ends_it() -> None:
    """A fork and the end of the process hold the lock while they wait for the thread."""
    thread = io_thread.current()
    is_held, is_done = threading.Event(), threading.Event()

    async def call() -> None:
        await asyncio.to_thread(is_held.wait, 10)
        thread.call_soon(is_done.set)

    future = thread.submit(call)
    with io_thread_probe().lock:
        is_held.set()
        assert is_done.wait(5)
    future.result(5)
