"""The C core without Python: its files and the programs in `core/`, compiled with the checks of ASan and UBSan.

A program prints its seed when it fails: `core/model.c` with seed 7 and 3000 steps is `model 7 3000`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.ipc.tools import CORE, core_sources

HERE = Path(__file__).parent / "core"
FLAGS = [
    *("-std=c11", "-O1", "-g", "-pthread", f"-I{CORE}"),
    *("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
]
PROGRAMS = ("model", "situations", "threads", "deaths", "damage", "scribbles")


def cc(*arguments: str | Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("gcc") or "cc"
    done = subprocess.run([compiler, *FLAGS, *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the compiled programs."""
    directory = tmp_path_factory.mktemp("core")
    sources = [*core_sources(), HERE / "support.c", HERE / "workload.c"]
    objects = [directory / f"{source.stem}.o" for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda source, object: cc("-c", source, "-o", object), sources, objects))
        list(pool.map(lambda name: cc(HERE / f"{name}.c", *objects, "-o", directory / name), PROGRAMS))
    return directory


@pytest.mark.parametrize(
    ("program", "steps"),
    [("model", 12000), ("situations", 1), ("threads", 8000), ("deaths", 120), ("damage", 30), ("scribbles", 25)],
)
def test_core(programs: Path, program: str, steps: int) -> None:
    seed = os.environ.get("SEED") or str(secrets.randbelow(10**9))
    # Sanitizers want to come first.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        [programs / program, seed, str(steps)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{program} {seed} {steps}\n{done.stderr}"
