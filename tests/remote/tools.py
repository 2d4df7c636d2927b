"""What several tests of the remote half do with a layer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from tests.support.servers import HOST


async def exchange(layer: Any) -> None:
    """A message on each kind of channel, one of them by way of a group."""
    name = await layer.new_channel()
    await layer.group_add("g", name)
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in ("normal", name)]
    await layer.send("normal", {"n": 1})
    await layer.group_send("g", {"n": 2})
    async with asyncio.timeout(10):
        assert [await task for task in waiting] == [{"n": 1}, {"n": 2}]


async def refused(layer: Any, pattern: str) -> None:
    """Calls fail in time and say why; a receiver waits on."""
    waiting = asyncio.create_task(layer.receive("normal"))
    for call in (layer.send("normal", {}), layer.group_discard("g", "normal"), layer.group_send("g", {})):
        async with asyncio.timeout(10):
            with pytest.raises(RemoteUnavailable, match=pattern):
                await call
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    await layer.close()


async def receiver_is_told(layer: Any, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits for a normal channel goes on waiting, while the log says why nothing comes."""
    waiting = asyncio.create_task(layer.receive("normal"))
    async with asyncio.timeout(10):
        while text not in caplog.text:  # noqa: ASYNC110  # logging has no event
            await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])


async def resumes(layer: Any, stop: Callable[[], None]) -> None:
    """What is sent after `stop`, as soon as it is taken, reaches who waits for a normal channel and for an own one."""
    name = await layer.new_channel()
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in ("normal", name)]
    await asyncio.sleep(0.2)
    stop()
    for channel in ("normal", name):
        dead = -1
        while dead != (dead := (await layer.statistics())["dead"]):  # what took over may not know the process yet
            await recovered(partial(layer.send, channel, {"n": channel}), 20)
            await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        assert [(await task)["n"] for task in waiting] == ["normal", name]
    await layer.close()


async def recovered(action: Callable[[], Any], seconds: float = 5) -> Any:
    """The result of `action` once it succeeds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await action()
        except RemoteUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def told(caplog: pytest.LogCaptureFixture, *servers: Any) -> list[str]:
    """What was logged, but for what names the servers of other tests only, whose layers may still be there."""
    own = [f":{server.port}" for server in servers]
    return [text for text in caplog.messages if f"{HOST}:" not in text or any(port in text for port in own)]
