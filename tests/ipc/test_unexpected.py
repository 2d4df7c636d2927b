"""An unexpected exception, in any callback of the event loop: the next message arrives all the same."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hybrid_layer.ipc.objects import Descriptor
from hybrid_layer.ipc.process import ProcessState
from hybrid_layer.ipc.segment import LocalSegment
from hybrid_layer.ipc.wait_set import WaitSet
from tests.ipc.tools import layer_of
from tests.support.waiting import receiving, until

PLACES: list[tuple[type, str]] = [
    (WaitSet, "_unwait_stale"),
    (WaitSet, "_notify"),
    (WaitSet, "_register_again"),
    (WaitSet, "_look_by_name"),
    (Descriptor, "is_at"),
    (ProcessState, "take_in"),
    (LocalSegment, "run_deferred"),
    (LocalSegment, "recover_if_lost"),
    (LocalSegment, "tidy_up"),
]


@pytest.mark.parametrize(("cls", "name"), PLACES, ids=[name for _, name in PLACES])
async def test_the_next_message_arrives(
    prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cls: type, name: str
) -> None:
    layer = layer_of(prefix)
    real = getattr(cls, name)
    left = 0

    def faulty(*args: Any) -> Any:
        nonlocal left
        try:
            asyncio.current_task()
        except RuntimeError:
            return real(*args)
        if left and asyncio.current_task() is None:  # in a callback, not in a caller's call
            left -= 1
            raise MemoryError("injected")
        return real(*args)

    monkeypatch.setattr(cls, name, faulty)
    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
    own = await layer.new_channel()
    met = 0
    for number in range(3):
        waiting = await receiving(layer, "normal", own)
        left = 2
        await layer.send("normal", {"n": number})
        await layer.send(own, {"n": number})
        async with asyncio.timeout(5):
            assert [await task for task in waiting] == [{"n": number}] * 2
        waiting = [asyncio.create_task(layer.receive("normal"))]
        await until(time.monotonic() + 0.3)  # the timer does the housekeeping
        met += 2 - left
        left = 0
        await layer.send("normal", {"n": -1})
        assert await asyncio.wait_for(waiting[0], 5) == {"n": -1}
    assert unhandled == []
    assert (await layer.statistics())["errors"] == met
    if met:
        assert "The watch over shared memory met an unexpected error" in caplog.text
    await layer.close()
