"""Chaos across machines: `python -m tests.machines.chaos` runs it for as long as one likes."""

from __future__ import annotations

import pytest

from tests.chaos.test_chaos import run_program

pytestmark = [pytest.mark.usefixtures("needs_machines"), pytest.mark.timeout(300)]
PROGRAM = "tests.machines.chaos"


WAYS = [("queue", "name"), ("pubsub", "name"), ("queue", "machine")]
"""`remote` and `locality`."""


@pytest.mark.thorough
def test_chaos() -> None:
    """By machine, where most can go wrong. By name, it is for the long tests."""
    run_program(PROGRAM, "--seconds", "20", "--servers", "3", "--locality", "machine")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("remote", "locality"), WAYS)
@pytest.mark.parametrize("servers", ["1", "3"])
def test_chaos_for_minutes(servers: str, remote: str, locality: str) -> None:
    run_program(PROGRAM, "--seconds", "180", "--servers", servers, "--remote", remote, "--locality", locality)
