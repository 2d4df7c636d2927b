"""A layer that was built before a fork works in the parent and in the children.

The forking is done in second processes, by the programs of `forks`, which must print nothing.
"""

from __future__ import annotations

import pytest

from tests.contract import forks
from tests.contract.configurations import LayerMaker
from tests.support.processes import Spawn

pytestmark = [pytest.mark.configurations("each-path"), pytest.mark.processes]


@pytest.mark.parametrize(
    ("used", "way"),
    [
        pytest.param("only built", "by Python", marks=pytest.mark.thorough),
        ("in a loop", "by Python"),
        ("by sync code", "by Python"),
        pytest.param("in a loop", "in C", marks=pytest.mark.thorough),
        ("by sync code", "in C"),
        ("by sync code", "in C, told"),
    ],
)
def test_fork_directly(make_layer: LayerMaker, spawn: Spawn, used: str, way: str) -> None:
    assert spawn(forks.directly, make_layer.spec(), used, way).result() is None


def test_server_that_preloads(make_layer: LayerMaker, spawn: Spawn) -> None:
    make_layer(capacity=500)  # empties it at the end: nobody reads the message that warmed up
    shares = spawn(forks.preloaded, make_layer.spec(capacity=500), 3, 300).result()
    assert sorted(n for share in shares for n in share) == list(range(300))
    for share in shares:
        assert share == sorted(share)


def test_prefork_pool(make_layer: LayerMaker, spawn: Spawn) -> None:
    numbers = spawn(forks.prefork_pool, make_layer.spec(), 60).result()
    assert sorted(numbers) == list(range(60))


def test_fork_while_coroutines_wait(make_layer: LayerMaker, spawn: Spawn) -> None:
    assert spawn(forks.while_waiting, make_layer.spec()).result() is None


def test_fork_while_threads_send(make_layer: LayerMaker, spawn: Spawn) -> None:
    assert spawn(forks.while_threads_send, make_layer.spec()).result() is None
