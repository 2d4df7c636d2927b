"""The two inboxes, the extension and its twin in Python, for tests that run on both.

A module of such tests imports the fixture `implementation`: for each of the two, it stands for the names by which the
module calls what it tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from hybrid_layer import interpreted
from hybrid_layer.configuration import LayerOptions
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import Statistics

try:
    from hybrid_layer import _inbox  # type: ignore[attr-defined]
except ImportError:  # pytest says so, see conftest.py
    _inbox = None

IMPLEMENTATIONS: dict[str, ModuleType] = {"extension": _inbox, "interpreted": interpreted}
both = pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)


@pytest.fixture(scope="module", params=IMPLEMENTATIONS.values(), ids=list(IMPLEMENTATIONS), autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Its types are those that the test module's own names stand for."""
    module: ModuleType = request.param
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Inbox", "Waiter", "WaitQueue", "Waker"):
            if hasattr(request.module, name):
                patch.setattr(request.module, name, getattr(module, name))
        yield module


def later() -> float:
    """A deadline that no test reaches."""
    return time.monotonic() + 100


def take(box: Any, name: str) -> bytes | None:
    """The messages that a consumer of `name` would get at once."""
    loop = asyncio.new_event_loop()
    receiving = box.receive(name, Nothing(), loop)
    try:
        receiving.send(None)
    except StopIteration as end:
        payload: bytes = end.value
        return payload
    finally:
        receiving.close()
        loop.close()
    return None


def new_inbox(implementation: ModuleType, capacity: int = 10, **options: Any) -> tuple[Any, Statistics]:
    """An inbox, and its counters."""
    statistics = Statistics()
    return implementation.Inbox(Policy(LayerOptions(capacity=capacity)), statistics, **options), statistics


class Nothing:
    """A source without messages."""

    def __init__(self) -> None:
        self.relaxed = 0

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        self.relaxed += 1
