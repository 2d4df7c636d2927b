"""Python has no memory for what was taken out of the segment: that has its own back, and what was lost is counted."""

from __future__ import annotations

import _testcapi
import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from hybrid_layer.ipc import IPCChannelLayer, _core
from hybrid_layer.statistics import KEYS
from tests.ipc.tools import check, layer_of
from tests.support.probe import probe

T = TypeVar("T")
HOUR_NS = 3_600_000_000_000
SIZES = (60_000, 10, 300_000, 300_000)
"""Of payloads: copied under the lock, and the last two outside it. A drain takes the first three."""
_MEMORY, _DAMAGED = KEYS.index("memory"), KEYS.index("damaged")


def opened(layer: IPCChannelLayer) -> tuple[_core.Segment, str]:
    asyncio.run(layer.new_channel())
    return probe(layer).core, probe(layer).open_inboxes[0]


def failing(number: int, call: Callable[[], T]) -> T | None:
    """What it returns when Python's allocation with that number fails: None if that was one of its own."""
    result = None
    _testcapi.set_nomemory(number, number + 1)
    try:
        result = call()
    except MemoryError:
        pass
    finally:
        _testcapi.remove_mem_hooks()
    return result


@pytest.mark.parametrize("method", ["drain", "pop"])
def test_each_allocation_of_a_reader_fails(prefix: str, method: str) -> None:
    layer = layer_of(prefix)
    core, inbox = opened(layer)
    before = check(layer)

    def drain() -> int:
        return len(core.drain(inbox, -1)[0])

    def pop() -> int:
        return int(core.pop("normal", -1)[0] is not None)

    queue, local, take = (inbox, "1", drain) if method == "drain" else ("normal", "", pop)
    sizes = SIZES if method == "drain" else SIZES[::-1]
    sent = received = number = 0
    has_failed = True
    while has_failed:  # until the number is beyond the last allocation
        for size in sizes:
            core.push(queue, local, b"x" * size, 100, HOUR_NS)
            sent += 1
        taken = failing(number, take)
        has_failed = taken is None
        received += taken or 0
        while taken := take():
            received += taken
        after = check(layer)
        assert after["blocks"] - after["free"] == before["blocks"] - before["free"], number
        number += 1
    assert number > 2
    counters = core.counters()
    assert sent - received == counters[_MEMORY] > 0
    assert counters[_DAMAGED] == 0
