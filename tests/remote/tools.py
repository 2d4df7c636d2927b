"""Helpers of the tests of the remote half."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from tests.support.probe import probe
from tests.support.servers import HOST
from tests.support.waiting import cancelled, receiving, succeeds, wait_until

Make = Callable[..., Any]
"""The type of the fixtures `make`, `make_layer` and `make_pubsub`."""
WAYS: dict[str, Make] = {
    "queue": RedisChannelLayer,
    "pubsub": RedisPubSubChannelLayer,
    "hybrid": partial(HybridChannelLayer, routes={"normal": "remote"}),
    "hybrid-pubsub": partial(HybridChannelLayer, routes={"normal": "remote"}, remote="pubsub"),
}
"""All ways of a message over servers; of normal channels, that of the name `normal`."""


async def exchange(layer: Any) -> None:
    """A message on each kind of channel, one of them through a group."""
    name = await layer.new_channel()
    await layer.group_add("g", name)
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in ("normal", name)]
    await layer.send("normal", {"n": 1})
    await layer.group_send("g", {"n": 2})
    async with asyncio.timeout(10):
        assert [await task for task in waiting] == [{"n": 1}, {"n": 2}]


async def refused(layer: Any, pattern: str) -> None:
    """Calls fail in time and say why; a receiver keeps waiting."""
    waiting = asyncio.create_task(layer.receive("normal"))
    for call in (layer.send("normal", {}), layer.group_discard("g", "normal"), layer.group_send("g", {})):
        async with asyncio.timeout(10):
            with pytest.raises(RemoteUnavailable, match=pattern):
                await call
    assert not waiting.done()
    await cancelled(waiting)
    await layer.close()


async def receiver_is_told(layer: Any, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A receiver on a normal channel keeps waiting, while the log says why no message comes."""
    waiting = asyncio.create_task(layer.receive("normal"))
    await wait_until(lambda: text in caplog.text, f"the log says {text!r}")
    assert not waiting.done()
    await cancelled(waiting)


async def resumes(layer: Any, stop: Callable[[], None]) -> None:
    """Messages sent after `stop`, as soon as sends work, reach receivers on a normal channel and on an own one."""
    name = await layer.new_channel()
    waiting = await receiving(layer, "normal", name)
    stop()

    async def is_taken(channel: str) -> bool:
        dead = (await layer.statistics())["dead"]
        await recovered(partial(layer.send, channel, {"n": channel}), 20)
        return (await layer.statistics())["dead"] == dead  # else what took over does not know the process yet

    for channel in ("normal", name):
        await wait_until(partial(is_taken, channel), f"a message to {channel} is taken", 20)
    async with asyncio.timeout(20):
        assert [(await task)["n"] for task in waiting] == ["normal", name]
    await layer.close()


async def recovered(action: Callable[[], Any], seconds: float = 5) -> Any:
    """The result of `action` once it succeeds."""
    return await succeeds(action, RemoteUnavailable, seconds=seconds)


async def listens_here(layer: Any) -> None:
    """Wait until what is sent to the process is read in the running loop, where somebody waits."""
    loop = asyncio.get_running_loop()
    await wait_until(lambda: probe(layer).listens_in is loop, "the process is read in this loop")


def told(caplog: pytest.LogCaptureFixture, *servers: Any) -> list[str]:
    """The log without lines about servers of other tests only, whose layers may still be there."""
    own = [f":{server.port}" for server in servers]
    return [text for text in caplog.messages if f"{HOST}:" not in text or any(port in text for port in own)]
