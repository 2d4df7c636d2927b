"""Runs coroutines: each on a new event loop, of asyncio or of uvloop, and with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Literal, TypeVar

import uvloop

from tests.support.waiting import cancelled

T = TypeVar("T")
LoopKind = Literal["asyncio", "uvloop"]

LOOPS: dict[LoopKind, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run(coroutine: Coroutine[Any, Any, T], *, loop: LoopKind = "asyncio", seconds: float | None = 60.0) -> T:
    """Run to the end and return the result; `TimeoutError` after `seconds`."""

    async def bounded() -> T:
        async with asyncio.timeout(seconds):
            return await coroutine

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(bounded())


Run = Callable[..., Any]
"""The type of the fixture `run`."""


class Turns:
    """How many turns other coroutines got."""

    number = 0


@contextlib.asynccontextmanager
async def counted_turns(pause: float = 0) -> AsyncIterator[Turns]:
    """Counts the turns that the running loop gives to others in the block, at most one in each `pause` seconds."""
    turns = Turns()

    async def count() -> None:
        while True:
            await asyncio.sleep(pause)  # this is counted
            turns.number += 1

    counting = asyncio.create_task(count())
    try:
        yield turns
    finally:
        await cancelled(counting)
