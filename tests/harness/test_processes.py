"""The second processes that the other tests rely on: what goes wrong in them must fail the test."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings

from tests.support.process_main import Parent
from tests.support.processes import ProcessFailed, Spawn
from tests.support.processes import spawn as spawn_directly
from tests.support.waiting import block_until


def count(parent: Parent, start: int, *, end: str) -> str:
    parent.ready(os.getpid())
    while (step := parent.receive()) is not None:
        start += step
        parent.send(start)
    return end


async def name_of_loop(parent: Parent) -> tuple[str, bool]:
    loop = asyncio.get_running_loop()
    return type(loop).__module__, loop.get_debug()


def echo(parent: Parent, value: Any) -> Any:
    return value


def environment(parent: Parent) -> tuple[str | None, bool, bool]:
    return os.environ.get("HYBRID_TEST"), settings.configured, sys.flags.dev_mode


def shout(parent: Parent) -> None:
    sys.stderr.write("hello")


def warn(parent: Parent) -> None:
    warnings.warn("careful", stacklevel=1)


def fail(parent: Parent) -> None:
    raise ValueError("this went wrong")


def leave_a_child(parent: Parent) -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def wait_forever(parent: Parent) -> None:
    parent.ready()
    signal.pause()


def test_values_go_both_ways(spawn: Spawn) -> None:
    process = spawn(count, 10, end="done")
    assert process.ready() == process.pid
    process.send(5)
    process.send(7)
    assert [process.receive(), process.receive()] == [15, 22]
    process.send(None)
    assert process.result() == "done"
    assert process.result() == "done"
    assert not process.running


def test_any_value_goes(spawn: Spawn) -> None:
    value = {"bytes": b"\x00\xff", "pattern": re.compile("a.*"), "infinite": float("inf"), "long": list(range(100_000))}
    assert spawn(echo, value).result() == value


def test_target_by_name(spawn: Spawn) -> None:
    assert spawn("tests.harness.test_processes:echo", 1).result() == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_coroutines_run_on_the_loop_that_was_asked_for(spawn: Spawn, loop: str) -> None:
    module, debug = spawn(name_of_loop, loop=loop).result()
    assert module.startswith(loop)
    assert debug


def test_environment_flags_and_settings(spawn: Spawn) -> None:
    assert spawn(environment, environment={"HYBRID_TEST": "yes"}).result() == ("yes", True, True)
    assert spawn(environment, flags=()).result() == (None, True, False)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (shout, "printed nothing.*hello"),
        (warn, "code 1.*UserWarning: careful"),
        (fail, "code 1.*ValueError: this went"),
    ],
)
def test_what_goes_wrong_there_fails_here(spawn: Spawn, target: Callable[..., None], complaint: str) -> None:
    with pytest.raises(ProcessFailed, match=re.compile(complaint, re.DOTALL)):
        spawn(target).result()


def test_unexpected_answers_fail(spawn: Spawn) -> None:
    process = spawn(echo, 5)
    with pytest.raises(ProcessFailed, match="gave a result where a ready was awaited: 5"):
        process.ready()
    process.kill()
    process = spawn(wait_forever)
    process.ready()
    with pytest.raises(ProcessFailed, match="gave no message within"):
        process.receive(0.05)
    process.kill()


def test_a_process_that_ended_takes_nothing(spawn: Spawn) -> None:
    process = spawn(fail)
    with pytest.raises(ProcessFailed, match="this went wrong"):
        process.result()
    with pytest.raises(ProcessFailed, match="ended with exit code 1, and takes nothing"):
        process.send(1)


def test_kill_ends_it_there_and_then(spawn: Spawn) -> None:
    process = spawn(wait_forever)
    process.ready()
    process.kill()
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_ended_cannot_be_killed(spawn: Spawn) -> None:
    process = spawn(echo, 1)
    block_until(lambda: not process.running, "it has ended")
    with pytest.raises(ProcessFailed, match="code 0 instead of -15"):
        process.kill(signal.SIGTERM)


def test_pause_and_resume(spawn: Spawn) -> None:
    process = spawn(count, 1, end="end")
    process.ready()
    process.pause()
    process.send(1)
    with pytest.raises(ProcessFailed, match="no message within"):
        process.receive(0.05)
    process.resume()
    assert process.receive() == 2
    process.send(None)
    process.result()


def test_a_forked_child_left_behind_fails_and_is_killed(spawn: Spawn) -> None:
    process = spawn(leave_a_child)
    with pytest.raises(ProcessFailed, match="left processes behind"):
        process.result()


def test_a_process_left_running_fails_the_test_and_is_killed() -> None:
    with pytest.raises(ProcessFailed, match="still ran at the end"), spawn_directly(wait_forever) as process:
        process.ready()
    assert not psutil.pid_exists(process.pid)


LEAVES_ONE_RUNNING = """
from tests.harness.test_processes import wait_forever

def test_passes(spawn):
    spawn(wait_forever).ready()

def test_fails(spawn):
    spawn(wait_forever).ready()
    assert "this" == "that"
"""


def test_the_fixture_fails_a_test_that_passed_but_left_one_running(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(LEAVES_ONE_RUNNING)
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-c", root / "pyproject.toml", "--rootdir", root, tmp_path]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert "1 failed, 1 passed, 1 error" in done.stdout
    assert "ERROR at teardown of test_passes" in done.stdout
    assert "still ran at the end" in done.stdout


def test_processes_end_with_a_run_that_is_killed() -> None:
    code = (
        "from tests.support.processes import *\n"
        "p = spawn('tests.harness.test_processes:wait_forever'); p.ready(); print(p.pid, flush=True); input()"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.kill()
    block_until(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE,
        f"process {pid} has ended",
    )
