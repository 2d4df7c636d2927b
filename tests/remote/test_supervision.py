"""An unexpected exception, at every await of each long-lived task: the next message arrives all the same."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from tests.support.injecting import Injector
from tests.support.loops import Run
from tests.support.odd_server import OddServer, usual
from tests.support.probe import io_thread_probe, new_io_thread
from tests.support.servers import HOST, Server
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.any_server

TASKS = {
    "queue": [
        "the reader of normal channels",
        "InboxReader._run",
        "the heartbeat",
        "PipelinedConnection._run",
    ],
    "pubsub": ["Subscriber._run", "the heartbeat", "PipelinedConnection._run"],
    "machine": [
        "the reader of the machine's stream",
        "the upkeep of the machine's stream",
        "the leases of the machine's streams",
    ],
}
LONGER = {"the heartbeat": 0.4, "the leases of the machine's streams": 0.8, "the upkeep of the machine's stream": 1.4}
"""Seconds in which a task that goes by the clock completes a round."""
MOST = 60
"""More than any of them awaits in one round."""


@pytest.fixture
def injector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Injector]:
    """In an I/O thread of its own."""
    injector = Injector()
    thread = new_io_thread(monkeypatch)
    io_thread_probe().when_opened(monkeypatch, injector.install)
    yield injector
    thread.close()


def make(kind: str, server: Server, prefix: str) -> Any:
    options: dict[str, Any] = {
        "hosts": [server.url],
        "prefix": prefix,
        "expiry": 1,
        "timeout": 1,
        "block_time": 0.05,
    }
    if kind == "machine":
        return HybridChannelLayer(**options, locality="machine")
    return (RedisChannelLayer if kind == "queue" else RedisPubSubChannelLayer)(**options)


async def succeed(call: Callable[[], Any]) -> Any:
    """A call that the fault hits may fail, the next one does not."""
    for _ in range(3):
        try:
            return await call()
        except RemoteUnavailable:
            pass
    return await call()


async def arrives(layer: Any, channel: str, send: Callable[[], Any]) -> None:
    """A message that is sent after the fault. Messages that a broken connection had taken are lost, as documented."""
    receiving = asyncio.create_task(layer.receive(channel))
    async with asyncio.timeout(8):
        while not receiving.done():
            await succeed(send)
            await asyncio.wait([receiving], timeout=0.1)
    await receiving


async def exchange(layer: Any, kind: str, elsewhere: Any) -> None:
    """On all kinds of channels, for long enough that every task completes a round.

    For a machine, the messages come from `elsewhere`.
    """
    own = await succeed(layer.new_channel)
    await succeed(lambda: layer.group_add("g", own))
    if kind == "machine":
        await arrives(layer, own, lambda: elsewhere.send(own, {}))
        await arrives(layer, own, lambda: elsewhere.group_send("g", {}))
        return
    await asyncio.gather(
        arrives(layer, "normal", lambda: layer.send("normal", {})),
        arrives(layer, own, lambda: layer.send(own, {})),
    )
    await arrives(layer, own, lambda: layer.group_send("g", {}))


async def settle(condition: Callable[[], bool]) -> None:
    def holds() -> bool:
        gc.collect()
        return condition()

    await wait_until(holds, "what was left is cleaned up")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("step", "error"), [(4, RuntimeError), pytest.param(1, MemoryError, marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize(("kind", "task"), [(kind, task) for kind, tasks in TASKS.items() for task in tasks])
def test_at_every_await(
    server: Server,
    prefix: str,
    run: Run,
    injector: Injector,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    task: str,
    step: int,
    error: type[Exception],
) -> None:
    # pytest keeps what is logged, with tracebacks, which keep what they were in.
    monkeypatch.setattr(logging.getLogger("hybrid_layer"), "propagate", False)
    errors: list[int] = []

    async def once(number: int) -> bool:
        layer, elsewhere = make(kind, server, prefix), make("queue", server, prefix)
        before = await layer.statistics()
        injector.arm(task, number, error)
        await exchange(layer, kind, elsewhere)
        # In which it continues, and perhaps reaches the await at which it must fail.
        await until(time.monotonic() + LONGER.get(task, 0.1))
        thrown = injector.has_thrown
        injector.arm("", 0, error)
        after = await layer.statistics()
        # One that redis-py meets while it connects, it makes a failure to connect of.
        errors.append(after["errors"] - before["errors"])
        assert errors[-1] <= thrown
        for key in ("undecodable", "slow", "full", "memory", "damaged"):
            assert after[key] == before[key]
        await exchange(layer, kind, elsewhere)
        await layer.close()
        await elsewhere.close()
        return thrown

    async def main() -> None:
        injector.install(asyncio.get_running_loop())
        assert not await once(MOST)
        gc.collect()
        open_before = descriptors()
        for number in range(1, MOST, step):
            if not await once(number):
                break
            await settle(lambda: descriptors() <= open_before)
        assert any(errors) or step > 1
        assert task in injector.met
        assert step < number < MOST

    run(main(), seconds=120)


def test_the_watch_over_sentinels_at_every_await(server: Server, prefix: str, run: Run, injector: Injector) -> None:
    """It subscribes again."""
    subscribed: list[bool] = []
    fields = {"name": "m", "ip": HOST, "port": str(server.port), "flags": "master", "config-epoch": "1"}
    master = [text.encode() for field in fields.items() for text in field]

    def answer(command: Sequence[bytes]) -> Any:
        if command[0] == b"SUBSCRIBE":
            subscribed.append(injector.has_thrown)
            return [b"subscribe", command[1], 1]
        return [master] if command[0] == b"SENTINEL" else usual(command)

    async def main() -> None:
        with OddServer(answer) as sentinel:
            hosts = [{"sentinels": [(HOST, sentinel.port)], "master_name": "m"}]
            for number in range(1, MOST):
                injector.arm("the watch over Sentinels", number, RuntimeError)
                layer = RedisChannelLayer(hosts=hosts, prefix=prefix, timeout=2)
                subscribed.clear()
                await succeed(lambda layer=layer: layer.send("normal", {}))
                await settle(lambda: bool(subscribed))
                await until(time.monotonic() + 0.05)  # in which it may reach the await at which it must fail
                if not injector.has_thrown:
                    break
                await settle(lambda: subscribed[-1])
                await layer.close()
            assert 3 < number < MOST

    run(main(), seconds=60)
