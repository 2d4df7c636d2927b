"""on_disconnect and on_reconnect: each consumer is notified of an outage once, and of its end once, in both modes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from tests.remote.tools import listens_here, recovered
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Process
from tests.support.servers import Server
from tests.support.waiting import at_rest, outlive, receiving, until, wait_until

Run = Callable[..., Any]
NewServer = Callable[..., Server]

NOTICES = {"on_disconnect": "layer.lost", "on_reconnect": "layer.back"}
LOST, BACK = {"type": "layer.lost"}, {"type": "layer.back"}
LAYERS: dict[str, Callable[..., Any]] = {
    "queue": RedisChannelLayer,
    "pubsub": RedisPubSubChannelLayer,
    "hybrid-queue": HybridChannelLayer,
    "hybrid-pubsub": lambda **options: HybridChannelLayer(remote="pubsub", **options),
}
ways = pytest.mark.parametrize("way", LAYERS)


@pytest.fixture
def make(way: str, prefix: str, new_server: NewServer) -> Callable[..., tuple[Any, Server]]:
    def make(config: dict[str, Any] | None = None, **options: Any) -> tuple[Any, Server]:
        server = new_server("valkey", **(config or {}))
        return LAYERS[way](**{"hosts": [server.url], "prefix": prefix, **NOTICES, **options}), server

    return make


async def receive(layer: Any, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), 10)


@ways
def test_a_server_that_restarts(way: str, make: Callable[..., tuple[Any, Server]], run: Run) -> None:
    layer, server = make()

    async def main() -> None:
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
        await layer.close()

    run(main(), seconds=60)


@pytest.mark.parametrize("way", ["queue", "pubsub"])
def test_a_connection_that_is_cut(way: str, make: Callable[..., tuple[Any, Server]], run: Run) -> None:
    layer, server = make()
    kinds = {"queue": ("SKIPME", "yes"), "pubsub": ("TYPE", "pubsub")}[way]

    async def main() -> None:
        name = await layer.new_channel()
        await layer.group_add("g", name)
        for _ in range(3):
            waiting = asyncio.create_task(receive(layer, name))
            await listens_here(layer)
            server.command("CLIENT", "KILL", *kinds)
            assert [await waiting, await receive(layer, name)] == [LOST, BACK]
            await recovered(lambda: layer.group_send("g", {"type": "on"}), 10)
            assert await receive(layer, name) == {"type": "on"}
        await layer.close()

    run(main())


@pytest.mark.parametrize("way", ["queue", "pubsub"])
def test_a_server_that_does_not_answer(way: str, make: Callable[..., tuple[Any, Server]], run: Run) -> None:
    layer, server = make(block_time=0.3, timeout=1, connection_kwargs={"socket_timeout": 0.8})

    async def main() -> None:
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
        await layer.close()

    run(main())
    server.resume()


@pytest.mark.parametrize("way", ["queue", "pubsub"])
def test_an_idle_connection_is_no_outage(way: str, make: Callable[..., tuple[Any, Server]], run: Run) -> None:
    layer, server = make(block_time=0.2)

    async def main() -> None:
        name = await layer.new_channel()
        waiting = asyncio.create_task(receive(layer, name))
        await until(time.monotonic() + 1.5)  # several times the block time
        await layer.send(name, {"type": "on"})
        assert await waiting == {"type": "on"}
        await layer.close()

    run(main())
    assert server.running


@pytest.mark.parametrize("way", ["pubsub"])
def test_who_left_long_ago_is_not_told(way: str, make: Callable[..., tuple[Any, Server]], run: Run) -> None:
    layer, server = make(expiry=1)

    async def main() -> None:
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
        await layer.close()

    run(main())


def member(parent: Parent, options: dict[str, Any]) -> list[Any]:
    """Join a group and receive until a message says that it is over."""
    layer = RedisPubSubChannelLayer(**options)

    async def main() -> list[Any]:
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

    return asyncio.run(main())


def test_a_process_that_does_not_read(
    prefix: str, new_server: NewServer, spawn: Callable[..., Process], run: Run
) -> None:
    """The server disconnects it when its output buffer is full. It notices when it continues, and subscribes again."""
    server = new_server("valkey", client_output_buffer_limit=["pubsub", "1mb", "1mb", "1"])
    options = {"hosts": [server.url], "prefix": prefix, "capacity": 10_000, **NOTICES}
    process = spawn(member, options)
    process.ready()
    layer = RedisPubSubChannelLayer(**options)

    async def main() -> None:
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
        await layer.close()

    run(main(), seconds=60)
    got = process.result()
    assert [each for each in got if each != "flood"] == ["layer.lost", "layer.back", "over"]


@pytest.mark.once
@pytest.mark.thorough
def test_ten_thousand_groups_are_listened_for_again(
    make_pubsub: Callable[..., Any], new_server: NewServer, run: Run
) -> None:
    server = new_server("valkey")
    layer = make_pubsub(hosts=[server.url], timeout=30, **NOTICES)

    async def main() -> None:
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
        await layer.close()

    run(main(), seconds=60)


def test_an_outage_does_not_prolong_memberships(
    make_pubsub: Callable[..., Any], new_server: NewServer, run: Run
) -> None:
    server = new_server("valkey")
    layer = make_pubsub(hosts=[server.url], group_expiry=2)

    async def main() -> None:
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

    run(main())


def test_calls_during_an_outage_end_in_time_and_work_afterwards(
    make_pubsub: Callable[..., Any], new_server: NewServer, run: Run
) -> None:
    server = new_server("valkey")
    layer = make_pubsub(hosts=[server.url], timeout=0.5)

    async def main() -> None:
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

    run(main())
