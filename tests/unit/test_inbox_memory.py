"""The memory of the inbox: it keeps nothing of consumers that are gone."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.inbox import Inbox, WaitQueue
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import Statistics
from tests.support.inboxes import Nothing, implementation, later
from tests.support.loops import run
from tests.support.waiting import cancelled, turns

__all__ = ["implementation"]


class Token:
    """An object that a coroutine holds, to see that it is freed."""


nothing = Nothing()


async def consume(box: Inbox, name: str, token: Token) -> None:
    await box.receive(name, nothing, asyncio.get_running_loop())


def started(box: Inbox, loop: asyncio.AbstractEventLoop) -> Any:
    receiving = box.receive("p!1", nothing, loop)
    receiving.send(None)
    return receiving


async def come_and_go(box: Inbox, n: int) -> weakref.ref[Token]:
    token = Token()
    tasks = [asyncio.create_task(consume(box, name, token)) for name in ("p!1", "p!2", "p!")]
    await turns()
    if n % 2:
        box.deliver(["p!1", "p!2"], b"%d" % n, later())
        await turns()
    await cancelled(*tasks)
    box.clear()  # what an abandoned one, not yet collected, was woken for
    loop = asyncio.get_running_loop()
    started(box, loop).close()
    with pytest.raises(asyncio.CancelledError):
        started(box, loop).throw(asyncio.CancelledError())
    cycle = [started(box, loop)]
    cycle.append(cycle)
    started(box, loop)
    WaitQueue().join(loop)
    return weakref.ref(token)


def left_in_a_closed_loop(box: Inbox) -> weakref.ref[Any]:
    closed = asyncio.new_event_loop()
    left = started(box, closed)
    closed.close()
    left.close()
    return weakref.ref(closed)


def test_nothing_is_kept_of_who_has_gone() -> None:
    """Served, cancelled, closed, thrown into, dropped, collected in a cycle, or left in a loop that was closed."""

    async def main() -> None:
        seen.extend([await come_and_go(box, n) for n in range(50)])
        seen.append(left_in_a_closed_loop(box))

    seen: list[weakref.ref[Any]] = []
    box = Inbox(Policy(LayerOptions()), Statistics())
    run(main())
    gc.collect()
    box.sweep()
    gc.collect()
    assert [each for each in seen if each() is not None] == []
    assert box.contents() == {}
