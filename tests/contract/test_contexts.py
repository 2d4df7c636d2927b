"""The layer keeps no caller's context variables: they are freed with the caller, while others still use the layer."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from tests.contract.configurations import LayerMaker
from tests.support.waiting import at_rest, cancelled, turns, wait_until

belonging: contextvars.ContextVar[Any] = contextvars.ContextVar("belonging")


class Belonging:
    """An object that only a context variable of one user refers to."""


async def use(layer: Any) -> None:
    """Everything that a consumer does. Without `asyncio.timeout`, whose cancelled timer would keep the context."""
    name = await layer.new_channel()
    await layer.group_add("first", name)
    for channel, send in ((name, layer.send), ("normal", layer.send), (name, layer.group_send)):
        await send("first" if send == layer.group_send else channel, {"type": "job"})
        assert await layer.receive(channel) == {"type": "job"}
    waiting = asyncio.create_task(layer.receive(name))
    await turns()
    await cancelled(waiting)
    await layer.group_add("first", "normal")
    await layer.group_send("first", {"type": "job"})
    assert await layer.receive("normal") == {"type": "job"}
    await layer.group_discard("first", name)
    await layer.group_discard("first", "normal")
    await layer.statistics()


async def gone(kept: list[weakref.ref[Belonging]]) -> None:
    """Wait until all of them are."""

    def is_gone() -> bool:
        gc.collect()
        return all(each() is None for each in kept)

    await wait_until(is_gone, "nothing keeps them, not even what ends soon")


@pytest.mark.configurations("each-path")
async def test_the_first_users_of_a_layer_are_not_kept(make_layer: LayerMaker) -> None:
    # asyncio keeps the timer of `asyncio.timeout` until its time, even if it was cancelled.
    layer, kept = make_layer(**({"timeout": 1} if make_layer.configuration.hosts else {})), []

    async def first() -> None:
        belonging.set(Belonging())
        kept.append(weakref.ref(belonging.get()))
        await use(layer)

    def job() -> None:
        belonging.set(Belonging())
        kept.append(weakref.ref(belonging.get()))
        for _ in range(2):
            async_to_sync(layer.send)("job", {"type": "job"})
        async_to_sync(layer.group_send)("nobody", {"type": "job"})

    thread = threading.Thread(target=job)
    thread.start()
    await asyncio.to_thread(thread.join)
    await asyncio.create_task(first())
    name = await layer.new_channel()
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in (name, "normal")]
    await gone(kept)
    for task, channel in zip(waiting, (name, "normal"), strict=True):
        await layer.send(channel, {"type": "on"})
        assert await task == {"type": "on"}


@pytest.mark.configurations("each-path")
async def test_who_waits_goes_on_in_its_own_context(make_layer: LayerMaker) -> None:
    layer = make_layer()
    name = await layer.new_channel()

    async def consumer(channel: str) -> Any:
        belonging.set(channel)
        await layer.receive(channel)
        return belonging.get()

    channels = [name, "normal"]
    tasks = [asyncio.create_task(consumer(channel)) for channel in channels]
    await at_rest(layer, *channels)
    for channel in channels:
        await layer.send(channel, {"type": "on"})
    assert [await task for task in tasks] == channels
