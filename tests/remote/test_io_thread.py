"""The I/O thread ends by a fault, never starts, or is a greenlet: calls end in time, and its residents continue."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.runtime import io_thread, real_thread
from tests.remote.tools import WAYS, Make
from tests.support.loops import Run
from tests.support.marks import but_thorough
from tests.support.probe import io_thread_probe, new_io_thread
from tests.support.servers import NewServer, Server
from tests.support.waiting import outlive, turns, wait_until

pytestmark = pytest.mark.any_server

ROOT = Path(__file__).parents[2]


def raise_in_callback(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("injected")

    io_thread.current().call_soon(fail)


def raise_in_selector(error: type[BaseException]) -> None:
    thread = io_thread.current()
    selector = io_thread_probe().selector

    def select(timeout: float | None = None) -> Any:
        raise error("injected")

    selector.select = select
    thread.call_soon(lambda: None)


FAULTS = {
    "exit": lambda: raise_in_callback(SystemExit),
    "interrupt": lambda: raise_in_callback(KeyboardInterrupt),
    "memory": lambda: raise_in_selector(MemoryError),
    "system": lambda: raise_in_selector(OSError),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("way", but_thorough(["queue", "pubsub"], "pubsub"))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_thread_that_ended_is_replaced(
    make: Make, way: str, run: Run, fault: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    io_thread_probe().begins_again_after(monkeypatch, 0.02, 0.1)
    layer = make(WAYS[way], expiry=1, timeout=2)
    names: list[str] = []

    async def begin() -> None:
        names.append(await layer.new_channel())
        await layer.group_add("g", names[0])

    async def go_on() -> None:
        ended = io_thread_probe().thread
        assert ended is not None
        FAULTS[fault]()
        await wait_until(lambda: not ended.is_alive(), "the thread has ended")
        receiving = asyncio.create_task(layer.receive(names[0]))
        await outlive(1.2)  # longer than an alive key lives without renewal
        async with asyncio.timeout(10):
            while not receiving.done():
                await layer.group_send("g", {"n": 1})
                await asyncio.wait([receiving], timeout=0.1)
        assert receiving.result() == {"n": 1}
        await layer.close()

    run(begin())
    run(go_on())
    if fault in ("memory", "system"):
        assert "The I/O thread met an unexpected error" in caplog.text
        assert "injected" in caplog.text


async def test_calls_under_way_end_with_the_thread(make_layer: Make, new_server: NewServer) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url], timeout=3)
    await layer.send("normal", {})
    server.pause()
    calls = [asyncio.create_task(layer.send("normal", {})) for _ in range(3)]
    await turns()
    await asyncio.wrap_future(io_thread.current().submit(turns))  # all have started there
    began = time.monotonic()
    raise_in_selector(MemoryError)
    for call in calls:
        with pytest.raises(RemoteUnavailable):
            await call
    assert time.monotonic() - began < 4
    server.resume()
    await layer.send("normal", {})
    await layer.close()


async def test_a_thread_that_never_begins_is_an_error(make_layer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """For whatever reason: here as if a patch replaced it by something that does not run."""
    new_io_thread(monkeypatch, begins_within=0.2)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    layer = make_layer(timeout=1)
    for call in (layer.send("normal", {}), layer.new_channel(), layer.group_send("g", {})):
        began = time.monotonic()
        with pytest.raises(RemoteUnavailable, match="I/O thread"):
            await call
        assert time.monotonic() - began < 2


def test_a_thread_that_does_not_answer_is_an_error(make_layer: Make) -> None:
    layer = make_layer(timeout=0.3)
    async_to_sync(layer.send)("normal", {})
    released = threading.Event()
    io_thread.current().call_soon(lambda: released.wait(5))
    try:
        began = time.monotonic()
        with pytest.raises(RemoteUnavailable, match="did not answer within"):
            async_to_sync(layer.send)("normal", {})
        assert time.monotonic() - began < 2
    finally:
        released.set()


def test_without_gevent_a_thread_is_python_s() -> None:
    ended = threading.Event()

    def main(begun: Callable[[], None]) -> None:
        begun()
        ended.wait(5)

    thread = real_thread.start_thread(main, "name", 5)
    assert isinstance(thread, threading.Thread)
    assert (thread.name, thread.daemon, thread.is_alive()) == ("name", True, True)
    ended.set()
    thread.join(5)


@pytest.mark.parametrize(
    "class_name", but_thorough(["RedisChannelLayer", "RedisPubSubChannelLayer"], "RedisPubSubChannelLayer")
)
def test_greenlets_in_place_of_threads(server: Server, prefix: str, class_name: str) -> None:
    pytest.importorskip("gevent")
    command = [sys.executable, Path(__file__).with_name("gevent_main.py"), class_name, server.url, prefix]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
