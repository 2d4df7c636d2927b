"""on_disconnect and on_reconnect: each consumer is notified of an outage once, and of its end once, in both modes."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote import RedisPubSubChannelLayer
from tests.remote.tools import WAYS, Make, listens_here, recovered
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import NewServer, Server
from tests.support.waiting import at_rest, outlive, receiving, until, wait_until

NOTICES = {"on_disconnect": "layer.lost", "on_reconnect": "layer.back"}
LOST, BACK = {"type": "layer.lost"}, {"type": "layer.back"}


@pytest.fixture
def server(new_server: NewServer) -> Server:
    """A server for this test alone."""
    return new_server("valkey")


async def receive(layer: Any, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), 10)


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_restarts(way: str, make: Make, server: Server) -> None:
    layer = make(WAYS[way], **NOTICES)
    waits, works = await layer.new_channel(), await layer.new_channel()
    for name in (waits, works):
        await layer.group_add("g", name)
        await layer.send(name, {"type": "job"})
        assert await receive(layer, name) == {"type": "job"}
    waiting = asyncio.create_task(receive(layer, waits))  # the other one is at work
    await at_rest(layer, waits)
    await listens_here(layer)
    for _ in range(2):
        server.kill()
        assert await waiting == LOST
        waiting = asyncio.create_task(receive(layer, waits))
        await until(time.monotonic() + 0.5)  # many tries fail
        assert not waiting.done()
        server.restart()
        began = time.monotonic()
        assert await waiting == BACK
        assert time.monotonic() - began < 5  # within one second on an idle machine
        waiting = asyncio.create_task(receive(layer, waits))
        assert [await receive(layer, works) for _ in range(2)] == [LOST, BACK]
    await recovered(lambda: layer.group_send("g", {"type": "a member still"}), 10)
    assert await waiting == {"type": "a member still"}
    assert await receive(layer, works) == {"type": "a member still"}


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_a_connection_that_is_cut(way: str, make: Make, server: Server) -> None:
    layer = make(WAYS[way], **NOTICES)
    kinds = {"queue": ("SKIPME", "yes"), "pubsub": ("TYPE", "pubsub")}[way]
    name = await layer.new_channel()
    await layer.group_add("g", name)
    for _ in range(3):
        waiting = asyncio.create_task(receive(layer, name))
        await listens_here(layer)
        server.command("CLIENT", "KILL", *kinds)
        assert [await waiting, await receive(layer, name)] == [LOST, BACK]
        await recovered(lambda: layer.group_send("g", {"type": "on"}), 10)
        assert await receive(layer, name) == {"type": "on"}


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_a_server_that_does_not_answer(way: str, make: Make, server: Server) -> None:
    options = {"block_time": 0.3, "timeout": 1, "connection_kwargs": {"socket_timeout": 0.8}}
    layer = make(WAYS[way], **NOTICES, **options)
    name = await layer.new_channel()
    waiting = asyncio.create_task(receive(layer, name))
    await listens_here(layer)
    server.pause()
    assert await waiting == LOST
    waiting = asyncio.create_task(receive(layer, name))
    await until(time.monotonic() + 0.5)  # many tries fail
    server.resume()
    assert await waiting == BACK
    await recovered(lambda: layer.send(name, {"type": "on"}), 10)
    assert await receive(layer, name) == {"type": "on"}
    server.resume()


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_an_idle_connection_is_no_outage(way: str, make: Make, server: Server) -> None:
    layer = make(WAYS[way], block_time=0.2, **NOTICES)
    name = await layer.new_channel()
    waiting = asyncio.create_task(receive(layer, name))
    await until(time.monotonic() + 1.5)  # several times the block time
    await layer.send(name, {"type": "on"})
    assert await waiting == {"type": "on"}
    assert server.running


async def test_who_left_long_ago_is_not_told(make_pubsub: Make, server: Server) -> None:
    layer = make_pubsub(expiry=1, **NOTICES)
    gone, waits = await layer.new_channel(), await layer.new_channel()
    for name in (gone, waits):
        await layer.send(name, {"type": "job"})
        await receive(layer, name)
    waiting = asyncio.create_task(receive(layer, waits))
    await outlive(1.1)
    server.command("CLIENT", "KILL", "TYPE", "pubsub")
    assert [await waiting, await receive(layer, waits)] == [LOST, BACK]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(gone), 0.2)
    for n in range(5000):
        probe(layer).note_waiting(f"{gone}{n}")
    assert probe(layer).told_of_outages >= 5000
    await outlive(1.1)
    for n in range(5000):
        probe(layer).note_waiting(f"{waits}{n}")
    assert probe(layer).told_of_outages < 12_000


async def member(parent: Parent, options: dict[str, Any]) -> list[Any]:
    """Join a group and receive until a message says that it is over."""
    layer = RedisPubSubChannelLayer(**options)
    asyncio.get_running_loop().slow_callback_duration = 60  # it will be stopped
    name = await layer.new_channel()
    await layer.group_add("g", name)
    (waiting,) = await receiving(layer, name)
    await listens_here(layer)
    parent.ready()
    got: list[Any] = []
    while not got or got[-1] != "over":
        got.append((await waiting)["type"])
        parent.send(got[-1])
        waiting = asyncio.create_task(layer.receive(name))
    waiting.cancel()
    await layer.close()
    return got


async def test_a_process_that_does_not_read(
    prefix: str, new_server: NewServer, spawn: Spawn, make_pubsub: Make
) -> None:
    """The server disconnects it when its output buffer is full. It notices when it continues, and subscribes again."""
    server = new_server("valkey", client_output_buffer_limit=["pubsub", "1mb", "1mb", "1"])
    options = {"hosts": [server.url], "prefix": prefix, "capacity": 10_000, **NOTICES}
    process = spawn(member, options)
    process.ready()
    layer = make_pubsub(**options)
    process.pause()
    for _ in range(120):  # the kernel's buffers fill first, and they grow
        await layer.group_send("g", {"type": "flood", "text": "x" * 500_000})
    process.resume()
    got = []
    while "layer.back" not in got:
        got.append(await asyncio.to_thread(process.receive))
    await layer.group_send("g", {"type": "over"})
    while got[-1] != "over":
        got.append(await asyncio.to_thread(process.receive))
    got = process.result()
    assert [each for each in got if each != "flood"] == ["layer.lost", "layer.back", "over"]


@pytest.mark.once
@pytest.mark.thorough
async def test_ten_thousand_groups_are_listened_for_again(make_pubsub: Make, server: Server) -> None:
    layer = make_pubsub(timeout=30, **NOTICES)
    name = await layer.new_channel()
    await asyncio.gather(*(layer.group_add(f"g.{n}", name) for n in range(10_000)))
    waiting = asyncio.create_task(receive(layer, name))
    await listens_here(layer)
    server.restart()
    assert await waiting == LOST
    assert await receive(layer, name) == BACK
    assert len(server.command("PUBSUB", "CHANNELS")) == 10_002
    for n in (0, 4_999, 9_999):
        await recovered(partial(layer.group_send, f"g.{n}", {"n": n}), 10)
        assert await receive(layer, name) == {"n": n}


async def test_an_outage_does_not_prolong_memberships(make_pubsub: Make, server: Server) -> None:
    layer = make_pubsub(group_expiry=2)
    name = await layer.new_channel()
    began = time.monotonic()
    await layer.group_add("g", name)
    await layer.group_add("g", "jobs")
    server.kill()
    await wait_until(lambda: probe(layer).listens_in is None, "the loss is seen")
    server.restart()
    await recovered(lambda: layer.send("other", {}), 10)
    await until(began + 2.2)
    await layer.group_send("g", {"n": 1})
    for channel in (name, "jobs"):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive(channel), 0.2)


async def test_calls_during_an_outage_end_in_time_and_work_afterwards(make_pubsub: Make, server: Server) -> None:
    layer = make_pubsub(timeout=0.5)
    name, leaves = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("g", leaves)
    server.kill()
    began = time.monotonic()
    results = await asyncio.gather(
        layer.send(name, {}),
        layer.group_add("g", name),
        layer.group_discard("g", leaves),
        layer.group_send("g", {}),
        layer.flush(),
        return_exceptions=True,
    )
    assert time.monotonic() - began < 3
    assert all(isinstance(result, RemoteUnavailable) and str(server.port) in str(result) for result in results)
    assert await layer.new_channel()
    server.restart()
    await recovered(lambda: layer.group_add("h", name), 10)
    await recovered(lambda: layer.group_send("g", {"n": "nobody"}), 10)
    await recovered(lambda: layer.group_send("h", {"n": 1}), 10)
    assert await receive(layer, name) == {"n": 1}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(leaves), 0.2)
