"""Chaos, and some hundred processes that start and end. `make chaos SECONDS=...` runs longer."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(300)


def run_program(name: str, *options: str) -> None:
    """With a seed, which it prints; the environment's SEED repeats that of a failure."""
    seed = os.environ.get("SEED") or str(secrets.randbelow(10**9))
    # Kept from taking all processors away from the tests beside it.
    command = ["nice", "-n", "5", sys.executable, "-m", name, *options, "--seed", seed]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=800, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"


@pytest.mark.thorough
def test_chaos() -> None:
    run_program("tests.chaos", "--seconds", "30")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_chaos_for_minutes() -> None:
    run_program("tests.chaos", "--seconds", "300")


@pytest.mark.thorough
def test_processes_that_come_and_go() -> None:
    run_program("tests.chaos.passing", "--number", "250")
