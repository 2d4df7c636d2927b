"""The end of a process that used a layer: no warning, no hang, nothing left; with `close()` and without it.

The programs of `exits` run with `python -X dev -W error`, must exit with 0, print nothing and leave no process.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from tests.contract import exits
from tests.contract.configurations import LayerMaker
from tests.contract.tools import receive
from tests.support.loops import LoopKind, run
from tests.support.processes import Spawn
from tests.support.waiting import cancelled, receiving

pytestmark = pytest.mark.processes
closing = pytest.mark.parametrize("close", [True, False], ids=["closed", "not closed"])


@closing
@pytest.mark.configurations("each-path")
def test_silent_end(make_layer: LayerMaker, spawn: Spawn, close: bool) -> None:
    programs = [exits.one_loop, exits.sync_code, exits.many_loops, exits.waiting_at_the_end]
    processes = [spawn(program, own_spec(make_layer), close) for program in programs]
    processes.append(spawn(exits.one_loop_program, own_spec(make_layer), close, loop="uvloop"))
    for process in processes:
        assert process.result() is None


def test_silent_end_without_close(make_layer: LayerMaker, spawn: Spawn) -> None:
    programs = [exits.never_used, exits.layer_kept_in_a_global, exits.exit_inside, exits.layers_come_and_go]
    programs.append(exits.no_thread_starts_at_the_end)
    for process in [spawn(program, own_spec(make_layer)) for program in programs]:
        assert process.result() is None


@pytest.mark.configurations("each-path")
def test_pending_receives_when_the_interpreter_ends(make_layer: LayerMaker, spawn: Spawn) -> None:
    """In any number of loops, closed or not, and whenever the collector finds them."""
    flags = ("-X", "dev", "-W", "error", "-W", "ignore::ResourceWarning")  # a loop that is not closed is one
    cases = [(1, False, True), (2, True, True), (3, False, False), (3, True, False)]
    processes = [spawn(exits.pending_at_the_end, own_spec(make_layer), *case, flags=flags) for case in cases]
    for process in processes:
        assert process.result() is None


def own_spec(maker: LayerMaker) -> dict[str, Any]:
    """A layer with a prefix of its own: the programs run at the same time and must not share messages."""
    spec = maker.spec(prefix="test-" + secrets.token_hex(6))
    maker(**spec["options"])  # empties it at the end
    return spec


@pytest.mark.configurations("each-path")
def test_prompt_end(make_layer: LayerMaker, spawn: Spawn) -> None:
    """No thread and no blocking call keeps the interpreter from ending."""
    long_block = {"block_time": 60} if make_layer.configuration.hosts else {}
    process = spawn(exits.tell_and_end, make_layer.spec(**long_block))
    process.ready()
    started = time.monotonic()
    process.result()
    assert time.monotonic() - started < 10


@closing
@pytest.mark.configurations("local", "hybrid-3")
def test_segment_goes_with_its_last_user(make_layer: LayerMaker, spawn: Spawn, close: bool) -> None:
    """Unless it holds a message, or a normal channel's membership; doorbells are removed in any case."""
    stays = {"nothing": False, "its own things": False, "a message": True, "a member": True}
    specs = {leave: own_spec(make_layer) for leave in stays}
    processes = {leave: spawn(exits.tell_shared_memory, specs[leave], close, leave) for leave in stays}
    for leave, process in processes.items():
        used = process.result()
        assert used
        left = [path for path in used if Path(path).exists()]
        assert [path for path in left if Path(path).is_fifo()] == []
        assert any(Path(path).is_file() and Path(path).stat().st_size > 1024 for path in left) == stays[leave], leave
        if stays[leave]:
            run(receive_what_was_left(make_layer(**specs[leave]["options"]), leave))


async def receive_what_was_left(layer: Any, leave: str) -> None:
    if leave == "a member":
        await layer.group_send("room", {"n": "to a member"})
    assert (await receive(layer, "normal"))["n"] == ("to a member" if leave == "a member" else "left behind")
    await layer.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.configurations("local")
def test_no_doorbell_is_left_by_a_loop_that_ended(make_layer: LayerMaker, loop: LoopKind) -> None:
    layer = make_layer()
    others = exits.doorbells_in_use()  # of earlier tests, whose loops were closed under their waiters
    seen: list[str] = []

    async def main() -> None:
        (waiting,) = await receiving(layer, "normal")
        seen.extend(set(exits.doorbells_in_use()) - set(others))
        await cancelled(waiting)

    run(main(), loop=loop)
    assert seen
    assert [path for path in seen if Path(path).exists()] == []
