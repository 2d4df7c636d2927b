"""How tests wait: for a named state, not for time to pass.

What must happen does so within `SOON`, on a busy machine too; a test that fails waits that long, and one that passes
does not. That nothing happens is seen from something later that does: send a second message, and see it come first.
Where time itself must pass, as until an expiry, it is `until` a moment.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tests.support.probe import probe

T = TypeVar("T")

SOON = 10.0
"""Seconds within which anything that must happen happens, on a loaded machine too."""
_PAUSES = [0.001 * 1.3**n for n in range(15)]
"""Seconds between two looks at first; then the last of them, 40 ms."""
_CLOCKS = 0.05
"""Seconds by which a server may let something expire later; it tells the time in milliseconds."""


async def wait_until(condition: Callable[[], Any], what: str, seconds: float = SOON) -> float:
    """Wait until the condition, which may be a coroutine function, holds; how long that took."""
    began, pauses = time.monotonic(), list(_PAUSES)
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        took = time.monotonic() - began
        if found:
            return took
        assert took < seconds, f"not within {seconds} s: {what}"
        await asyncio.sleep(_next(pauses))


def block_until(condition: Callable[[], Any], what: str, seconds: float = SOON) -> float:
    """The same, where there is no event loop, or it is to be held up."""
    began, pauses = time.monotonic(), list(_PAUSES)
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(_next(pauses))
    return time.monotonic() - began


async def until(moment: float) -> None:
    """Wait until `time.monotonic()` has passed a moment."""
    while (left := moment - time.monotonic()) >= 0:  # noqa: ASYNC110  # nothing else says so
        await asyncio.sleep(left + 0.001)


def block(moment: float) -> None:
    """The same, where there is no event loop, or it is to be held up."""
    while (left := moment - time.monotonic()) >= 0:
        time.sleep(left + 0.001)


async def outlive(seconds: float) -> None:
    """Wait until what lasts so long, and began before this, has expired; also by the clock of a server."""
    await until(time.monotonic() + seconds + _CLOCKS)


def block_to_outlive(seconds: float) -> None:
    """The same, where there is no event loop, or it is to be held up."""
    block(time.monotonic() + seconds + _CLOCKS)


async def turns(number: int = 1) -> None:
    """Give other coroutines of the loop that many turns."""
    for _ in range(number):
        await asyncio.sleep(0)


async def any_moment(most: float, dice: Any = random) -> None:
    """Continue within `most` seconds, at random, to meet concurrent code at any point."""
    await asyncio.sleep(dice.uniform(0, most))


def block_any_moment(most: float, dice: Any = random) -> None:
    """The same, where there is no event loop, or it is to be held up."""
    time.sleep(dice.uniform(0, most))


async def succeeds(action: Callable[[], Awaitable[T]], *refusals: type[Exception], seconds: float = SOON) -> T:
    """The result of `action`, which is tried until it raises none of `refusals`."""
    deadline, pauses = time.monotonic() + seconds, list(_PAUSES)
    while True:
        try:
            return await action()
        except refusals:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(_next(pauses))


def _next(pauses: list[float]) -> float:
    return pauses.pop(0) if len(pauses) > 1 else pauses[0]


async def at_rest(layer: Any, *channels: str) -> None:
    """Wait until the receivers on the channels, in this loop, wait: they have found nothing, on a server too."""
    await turns()
    await wait_until(lambda: all(map(probe(layer).is_at_rest, channels)), f"{channels} are waited on")


async def receiving(layer: Any, *channels: str) -> list[asyncio.Task[Any]]:
    """Receive on each of the channels, on which nothing comes yet; returned when it has come to wait."""
    tasks = [asyncio.create_task(layer.receive(channel)) for channel in channels]
    await at_rest(layer, *channels)
    return tasks


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
