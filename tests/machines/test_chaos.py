"""Chaos across machines: `python -m tests.machines.chaos` runs it for as long as one likes."""

from __future__ import annotations

import pytest

from tests.chaos.test_chaos import run_program

pytestmark = [pytest.mark.usefixtures("needs_machines"), pytest.mark.timeout(300)]
PROGRAM = "tests.machines.chaos"


WAYS = [("queue", "name"), ("pubsub", "name"), ("queue", "machine")]
"""`remote` and `locality`."""


@pytest.mark.thorough
@pytest.mark.parametrize(("remote", "locality"), WAYS)
def test_chaos(remote: str, locality: str) -> None:
    run_program(PROGRAM, "--seconds", "20", "--servers", "3", "--remote", remote, "--locality", locality)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("remote", "locality"), WAYS)
@pytest.mark.parametrize("servers", ["1", "3"])
def test_chaos_for_minutes(servers: str, remote: str, locality: str) -> None:
    run_program(PROGRAM, "--seconds", "180", "--servers", servers, "--remote", remote, "--locality", locality)
