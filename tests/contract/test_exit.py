"""The end of a process that used a layer: no warning, no hang, nothing left; with `close()` and without it.

The programs of `exits` run with `python -X dev -W error`, must exit with 0, print nothing and leave no process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract import exits
from tests.contract.conftest import LayerMaker
from tests.contract.tools import receive
from tests.loops import LoopKind, run
from tests.processes import Process

Spawn = Callable[..., Process]
closing = pytest.mark.parametrize("close", [True, False], ids=["closed", "not closed"])


@closing
@pytest.mark.parametrize("program", [exits.one_loop, exits.sync_code, exits.many_loops, exits.waiting_at_the_end])
def test_silent_end(make_layer: LayerMaker, spawn: Spawn, program: Callable[..., None], close: bool) -> None:
    assert spawn(program, make_layer.spec(), close).result() is None


@pytest.mark.parametrize(
    "program", [exits.never_used, exits.layer_kept_in_a_global, exits.exit_inside, exits.layers_come_and_go]
)
def test_silent_end_without_close(make_layer: LayerMaker, spawn: Spawn, program: Callable[..., None]) -> None:
    assert spawn(program, make_layer.spec()).result() is None


@closing
def test_silent_end_of_a_program_on_uvloop(make_layer: LayerMaker, spawn: Spawn, close: bool) -> None:
    assert spawn(exits.one_loop_program, make_layer.spec(), close, loop="uvloop").result() is None


def test_prompt_end(make_layer: LayerMaker, spawn: Spawn) -> None:
    """No thread or blocking call keeps the interpreter from ending."""
    process = spawn(exits.tell_and_end, make_layer.spec())
    process.ready()
    started = time.monotonic()
    process.result()
    assert time.monotonic() - started < 2


def test_message_sent_while_the_interpreter_ends(make_layer: LayerMaker, spawn: Spawn) -> None:
    spawn(exits.in_an_exit_handler, make_layer.spec()).result()
    layer = make_layer()

    async def look() -> list[Any]:
        got = [(await receive(layer, name))["n"] for name in ("first.words", "last.words")]
        await layer.close()
        return got

    assert run(look()) == ["hello", "good-bye"]


@closing
@pytest.mark.configurations("local", "hybrid-1")
@pytest.mark.parametrize(
    ("leave", "stays"), [("nothing", False), ("its own things", False), ("a message", True), ("a member", True)]
)
def test_segment_goes_with_its_last_user(
    make_layer: LayerMaker, spawn: Spawn, close: bool, leave: str, stays: bool
) -> None:
    """Unless it holds a message, or a normal channel's membership; doorbells go in any case."""
    if leave == "a member" and make_layer.configuration.specific_is_remote:
        stays = False  # the membership lies on the server
    used = spawn(exits.tell_shared_memory, make_layer.spec(), close, leave).result()
    assert used
    left = [path for path in used if Path(path).exists()]
    assert [path for path in left if Path(path).is_fifo()] == []
    assert any(Path(path).is_file() and Path(path).stat().st_size > 1024 for path in left) == stays
    layer = make_layer()

    async def look() -> None:
        if leave == "a member":
            await layer.group_send("room", {"n": "to a member"})
        if stays:
            assert await receive(layer, "normal")
        await layer.flush()
        await layer.close()

    run(look())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.configurations("local")
def test_no_doorbell_is_left_by_a_loop_that_ended(make_layer: LayerMaker, loop: LoopKind) -> None:
    layer = make_layer()
    seen: list[str] = []

    async def main() -> None:
        waiting = asyncio.create_task(layer.receive("normal"))
        await asyncio.sleep(0.02)
        seen.extend(exits.doorbells_in_use())
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run(main(), loop=loop)
    assert seen
    assert [path for path in seen if Path(path).exists()] == []
