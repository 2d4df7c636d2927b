"""Threads at work on one segment, under gcc's thread sanitizer: `core/threads.c`.

Once on one handle, as the threads of a process are, and once each with a handle of its own on the same memory, as if
they were processes: then nothing but the segment's lock keeps them apart, and the sanitizer sees whether it does.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from hybrid_layer.ipc import _core
from tests.ipc.compiling import HERE, compile_all, link, made_once, run
from tests.ipc.tools import core_sources
from tests.support.marks import but_thorough

# To compile takes its time where others work, too. What is tested has no Python in it.
pytestmark = [pytest.mark.timeout(300), pytest.mark.once]

SANITIZED = ("-O1", "-fsanitize=thread")
# Record locks, with which the portable core keeps others out, do not tell between two handles of one process.
HANDLES = (1,) if _core.PORTABLE else but_thorough((1, 2, 4), 2, 4)


def make(directory: Path) -> None:
    sources = [source for source in core_sources() if source.name != "liveness.c"]
    sources += [HERE / f"{name}.c" for name in ("threads", "support", "workload", "slots_of_threads")]
    link(directory / "threads", compile_all(sources, directory, *SANITIZED), *SANITIZED)


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "races", make) / "threads"


def same_addresses() -> list[str]:
    """The sanitizer knows only some of the places where newer kernels put a program; these words keep it there."""
    words = ["setarch", "-R"]
    works = (
        shutil.which(words[0]) and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    )
    return words if works else []


@pytest.mark.parametrize("handles", HANDLES)
def test_no_data_race(threads: Path, handles: int) -> None:
    seed = os.environ.get("SEED") or str(secrets.randbelow(10**9))
    done = run(*same_addresses(), threads, seed, 2500, handles)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip(done.stderr.splitlines()[0])
    assert (done.returncode, done.stderr) == (0, ""), f"threads {seed} 2500 {handles}\n{done.stderr}"
