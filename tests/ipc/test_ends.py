"""Processes that end in the middle of a wait, in every way: the right exit code, no hang, no word, no message taken."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.loops import leave_pending
from tests.ipc.tools import alive, check, doorbells, is_clean, layer_of, receive, segment_path
from tests.support.guardian import guardian, kill_group
from tests.support.loops import run
from tests.support.marks import but_thorough
from tests.support.process_main import Parent, is_about_the_program
from tests.support.processes import ROOT
from tests.support.waiting import cancelled, receiving, wait_until

# The programs. Each waits in `receive`, says so on stdout, and then comes to its end.


async def wait(layer: IPCChannelLayer) -> list[asyncio.Task[Any]]:
    own = await layer.new_channel()
    await layer.group_add("group", own)
    tasks = await receiving(layer, "normal", own)
    print("waits", flush=True)  # noqa: T201
    return tasks


async def exit_in_a_coroutine(layer: IPCChannelLayer) -> None:
    tasks = await wait(layer)
    sys.exit(len(tasks) + 5)


async def error_in_a_coroutine(layer: IPCChannelLayer) -> None:
    tasks = await wait(layer)
    raise ZeroDivisionError(len(tasks))


async def exit_at_once(layer: IPCChannelLayer) -> None:
    tasks = await wait(layer)
    os._exit(len(tasks) + 5)


async def wait_for_a_signal(layer: IPCChannelLayer) -> None:
    tasks = await wait(layer)
    await asyncio.gather(*tasks)


def wait_for_a_signal_that_is_passed_on(layer: IPCChannelLayer) -> None:
    """As servers do: the signal ends the loop in order, and is then raised again for the default to happen."""

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        tasks = await wait(layer)
        await stop.wait()
        await cancelled(*tasks)

    asyncio.run(main())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def in_a_daemon_thread(layer: IPCChannelLayer) -> None:
    waits = threading.Event()

    async def main() -> None:
        tasks = await wait(layer)
        waits.set()
        await asyncio.gather(*tasks)

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    waits.wait()


def error_beside_a_daemon_thread(layer: IPCChannelLayer) -> None:
    in_a_daemon_thread(layer)
    raise ZeroDivisionError


def loop_without_an_end(layer: IPCChannelLayer) -> None:
    """Stopped from outside, and never closed."""
    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(wait(layer))
    for task in tasks:
        leave_pending(task)
    loop.close()


PROGRAMS = (
    exit_in_a_coroutine,
    error_in_a_coroutine,
    exit_at_once,
    wait_for_a_signal,
    wait_for_a_signal_that_is_passed_on,
    in_a_daemon_thread,
    error_beside_a_daemon_thread,
    loop_without_an_end,
)

if __name__ == "__main__":
    logging.getLogger("asyncio").addFilter(is_about_the_program)
    ending = {program.__name__: program for program in PROGRAMS}[sys.argv[1]](layer_of(sys.argv[2]))
    if ending is not None:
        asyncio.run(ending)
    sys.exit(0)


@pytest.fixture
def start(prefix: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    # A shell has its background jobs ignore it, and all that they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.ipc.test_ends", program, prefix],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        started.append(process)
        guardian.watch("group", process.pid)
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        return process

    yield start
    signal.signal(signal.SIGINT, before)
    for process in started:
        kill_group(process.pid)
        process.communicate()
        guardian.forget("group", process.pid)


@pytest.mark.parametrize(
    ("program", "number", "code", "last_word", "in_order"),
    [
        ("exit_in_a_coroutine", None, 7, "", True),
        ("error_in_a_coroutine", None, 1, "ZeroDivisionError: 2", True),
        ("exit_at_once", None, 7, "", False),
        ("wait_for_a_signal", signal.SIGTERM, -signal.SIGTERM, "", False),
        ("wait_for_a_signal", signal.SIGKILL, -signal.SIGKILL, "", False),
        ("wait_for_a_signal", signal.SIGINT, -signal.SIGINT, "KeyboardInterrupt", True),
        ("wait_for_a_signal_that_is_passed_on", signal.SIGTERM, -signal.SIGTERM, "", False),
        ("in_a_daemon_thread", None, 0, "", True),
        ("error_beside_a_daemon_thread", None, 1, "ZeroDivisionError", True),
        ("loop_without_an_end", None, 0, "", True),
    ],
)
async def test_end_in_the_middle_of_a_wait(
    prefix: str,
    start: Callable[..., subprocess.Popen[str]],
    program: str,
    number: signal.Signals | None,
    code: int,
    last_word: str,
    in_order: bool,
) -> None:
    process = start(program)
    begin = time.monotonic()
    if number is not None:
        process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - begin < 10
    assert process.returncode == code
    lines = errors.strip().splitlines()
    assert (lines[-1] if lines else "") == last_word, errors
    assert len(lines) == 0 or lines[0] == "Traceback (most recent call last):", errors
    assert "Warning" not in errors
    assert "never" not in errors  # awaited, retrieved
    if in_order:
        assert is_clean(prefix)
        return
    # The rest stays until the next process of the prefix looks, which is soon; nothing was taken by the dead.
    assert segment_path(prefix).exists()
    layer = layer_of(prefix)
    await layer.send("normal", {"n": 1})
    assert await receive(layer, "normal") == 1
    waiting = asyncio.create_task(layer.receive("nothing"))
    await wait_until(lambda: len(doorbells(prefix)) == 1, "one doorbell is left", 2)
    assert alive(layer) == 1
    assert check(layer)["members"] == 0
    await cancelled(waiting)


def test_generations_that_end_by_a_signal_leave_one_segment(
    prefix: str, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """As every stop of a server that passes its signal on: the next generation has no more than the last one left."""
    sizes = []
    for _ in range(4):
        process = start("wait_for_a_signal_that_is_passed_on")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert doorbells(prefix) == []  # the loop ended in order
        sizes.append(segment_path(prefix).stat().st_blocks)
    # The first one may have made room for the later ones, and a page that is only read in housekeeping counts, too.
    assert sizes[3] - sizes[1] <= 4 * 8, sizes
    layer = layer_of(prefix)
    run(layer.new_channel())
    left = check(layer)
    assert (left["members"], left["messages"]) == (0, 0)
    assert alive(layer) == 1


def locked_up(parent: Parent, prefix: str, folder: str, when: str) -> None:
    """Use the layer, then see no file of before any more."""
    layer = layer_of(prefix)

    async def main() -> None:
        tasks = await receiving(layer, "normal", await layer.new_channel())
        await cancelled(*tasks)
        if when == "in the loop":
            os.chroot(folder)
            await layer.close()

    asyncio.run(main())
    if when == "after the loop":
        os.chroot(folder)


@pytest.mark.parametrize("when", but_thorough(["in the loop", "after the loop"], "in the loop"))
@pytest.mark.parametrize("places", [(), ("dev/shm",)], ids=["nothing", "another /dev/shm"])
async def test_end_in_a_chroot(prefix: str, spawn: Any, tmp_path: Path, when: str, places: tuple[str, ...]) -> None:
    """It sees neither the segment's name nor its directory, and ends without a word about that."""
    for place in places:
        (tmp_path / place).mkdir(parents=True)
    under = () if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user")
    spawn(locked_up, prefix, str(tmp_path), when, under=under).result()
    assert not [path for place in places for path in (tmp_path / place).iterdir()]
    layer = layer_of(prefix)
    await layer.send("normal", {"n": 1})
    assert await receive(layer, "normal") == 1
    assert alive(layer) == 1
