"""Each operation of the C core, killed at each of its stores to shared memory: see `core/kills.c`.

The core is compiled with the calls that gcc's thread sanitizer puts before each store, and `core/faults.c` in place of
the sanitizer. A failure names its seed and scene; `kills SEED 1 "SCENE"` repeats that scene, at every single change.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

import pytest

from tests.ipc.compiling import HERE, compile_all, link, made_once, run
from tests.ipc.tools import core_sources

# To compile takes its time where others work, too. What is tested has no Python in it.
pytestmark = [pytest.mark.timeout(300), pytest.mark.once]

CALLS = ("memcpy", "memset", "strncpy", "mmap", "munmap")
INSTRUMENTED = ("-O2", "-fsanitize=thread", *(f"-D{call}=faults_{call}" for call in CALLS))
WRONG = re.findall(r'\{"(wrong: .*?)"', (HERE / "scenes_wrong.c").read_text())


def make(directory: Path) -> None:
    names = ("kills", "faults", "support", "content", "scenes")
    names += ("scenes_messages", "scenes_groups", "scenes_waiting", "scenes_life", "scenes_streams", "scenes_chance")
    objects = compile_all((HERE / f"{name}.c" for name in names), directory, "-O2")
    objects += compile_all([*core_sources(), HERE / "scenes_wrong.c"], directory, *INSTRUMENTED)
    link(directory / "kills", objects)


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "kills", make) / "kills"


@pytest.mark.parametrize(
    ("table", "scenes", "deaths"),
    [
        ("waiting", 14, 1000),
        ("streams", 24, 1500),
        pytest.param("messages", 26, 3000, marks=pytest.mark.thorough),
        pytest.param("groups", 18, 2500, marks=pytest.mark.thorough),
        pytest.param("life", 16, 2500, marks=pytest.mark.thorough),
        pytest.param("chance", 16, 1000, marks=pytest.mark.thorough),
    ],
)
def test_a_death_at_each_store(kills: Path, table: str, scenes: int, deaths: int) -> None:
    """So many scenes and deaths at least, so that it cannot test nothing."""
    perform(kills, table, 1, scenes, deaths)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("table", ["messages", "groups", "waiting", "life", "streams", "chance"])
def test_repairs_that_die_too(kills: Path, table: str) -> None:
    """In twenty places of each scene, and not in one."""
    perform(kills, table, 20, 1, 5000)


def perform(kills: Path, table: str, places: int, scenes: int, deaths: int) -> None:
    seed = os.environ.get("SEED") or str(secrets.randbelow(10**9))
    done = run(kills, seed, places, table, timeout=800)
    assert (done.returncode, done.stderr) == (0, ""), f"kills {seed} {places} {table}\n{done.stdout}\n{done.stderr}"
    sys.stdout.write(done.stdout)  # how many deaths where: pytest -s
    *performed, total = done.stdout.splitlines()
    assert len(performed) >= scenes
    assert int(total.split()[0]) >= deaths


@pytest.mark.parametrize("scene", WRONG)
def test_a_mistake_is_found(kills: Path, scene: str) -> None:
    """The test of the test: operations with one mistake each."""
    done = run(kills, 1, 0, scene)
    assert done.returncode != 0
    assert f'in "{scene}"' in done.stderr
