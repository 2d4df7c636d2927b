"""The C core without Python: its files and the programs in `core/`, compiled with the checks of ASan and UBSan.

A program prints its seed when it fails: `core/model.c` with seed 7 and 3000 steps is `model 7 3000`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.ipc.compiling import HERE, compile_all, link, made_once, run
from tests.ipc.tools import core_sources

# To compile takes its time where others work, too. What is tested has no Python in it.
pytestmark = [pytest.mark.timeout(300), pytest.mark.once]

CHECKS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
PROGRAMS = (
    "model",
    "situations",
    "handles",
    "interrupted",
    "bells",
    "threads",
    "deaths",
    "damage",
    "scribbles",
    "fields",
    "words",
    "broken",
    "machines",
)


def make(directory: Path) -> None:
    parts = [*core_sources(), *(HERE / name for name in ("support.c", "scenes.c", "workload.c"))]
    objects = compile_all([*parts, *(HERE / f"{name}.c" for name in PROGRAMS)], directory, *CHECKS)
    for number, name in enumerate(PROGRAMS, start=len(parts)):
        link(directory / name, [*objects[: len(parts)], objects[number]], *CHECKS)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the compiled programs."""
    return made_once(tmp_path_factory, "core", make)


@pytest.mark.parametrize(
    ("program", "steps"),
    [
        ("model", 3000),
        pytest.param("model", 12000, marks=pytest.mark.thorough),
        pytest.param("model", 200_000, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        ("situations", 1),
        ("handles", 1),
        ("interrupted", 1),
        ("bells", 1),
        ("threads", 8000),
        ("deaths", 120),
        ("damage", 30),
        ("scribbles", 25),
        ("fields", 1),
        ("words", 4),
        ("broken", 1),
        ("machines", 20_000),
    ],
)
def test_core(programs: Path, tmp_path: Path, program: str, steps: int) -> None:
    seed = os.environ.get("SEED") or str(secrets.randbelow(10**9))
    done = run(programs / program, seed, steps, cwd=tmp_path, timeout=800)
    assert (done.returncode, done.stderr) == (0, ""), f"{program} {seed} {steps}\n{done.stderr}"
