"""Small helpers of the tests of this suite."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

kinds = pytest.mark.parametrize("kind", ["normal", "specific"])
SOON = 5.0
"""Seconds within which anything that must happen happens, on a loaded machine too."""
A_NORMAL_CHANNEL = "a.normal.channel"


async def receive(layer: Any, channel: str, seconds: float = SOON) -> Any:
    """The next message; fails if none comes soon."""
    async with asyncio.timeout(seconds):
        return await layer.receive(channel)


async def receive_numbers(layer: Any, channel: str, count: int) -> list[int]:
    """The field ``n`` of the next `count` messages."""
    return [(await receive(layer, channel))["n"] for _ in range(count)]


async def send_numbers(layer: Any, channel: str, numbers: range) -> None:
    """One message for each of `numbers`, in order."""
    for n in numbers:
        await layer.send(channel, {"type": "number", "n": n})


async def assert_silent(layer: Any, channel: str, seconds: float = 0.1) -> None:
    """No message comes from `channel`."""
    with pytest.raises(TimeoutError):
        await receive(layer, channel, seconds)


async def new_channel(layer: Any, kind: str) -> str:
    """A channel of the kind ``normal`` or ``specific``."""
    return A_NORMAL_CHANNEL if kind == "normal" else await layer.new_channel()


async def members(layer: Any, count: int, group: str = "group") -> list[str]:
    """New channels, of two prefixes by turns, that are members of `group`."""
    channels = [await layer.new_channel("red" if n % 2 else "blue") for n in range(count)]
    for channel in channels:
        await layer.group_add(group, channel)
    return channels


async def counted(layer: Any, key: str) -> int:
    """One of the layer's statistics."""
    value: int = (await layer.statistics())[key]
    return value


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel `task` as Channels does it: and await it."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass


class CancelledAt:
    """Awaits a coroutine, and cancels the task in which it runs at the coroutine's await number `step`.

    asyncio delivers a cancellation in two ways, and both are made here. By default the future that the coroutine waits
    for is cancelled before anything happened to it. With `late`, the future gets its result first, and the cancellation
    arrives before the coroutine runs again.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], step: int, late: bool = False) -> None:
        self.coroutine = coroutine
        self.step = step
        self.late = late
        self.steps = 0

    def __await__(self) -> Iterator[Any]:
        inner = self.coroutine.__await__()
        task = asyncio.current_task()
        assert task is not None
        try:
            future = next(inner)
            while True:
                if self.steps == self.step:
                    if self.late and future is not None:
                        future.add_done_callback(lambda _: task.cancel())
                    else:
                        task.cancel()
                self.steps += 1
                try:
                    value = yield future
                except BaseException as error:  # noqa: BLE001  # thrown on, whatever it is
                    future = inner.throw(error)
                else:
                    future = inner.send(value)
        except StopIteration as end:
            return end.value


async def as_coroutine(awaitable: Awaitable[T]) -> T:
    """`asyncio.create_task` takes coroutines only."""
    return await awaitable
