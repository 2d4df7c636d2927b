"""Commands are packed alike by hiredis and by redis-py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection

from hybrid_layer.remote.redis.server import commands
from tests.support.probe import pack_without_hiredis, packs_with_hiredis

WORDS = st.text() | st.binary(max_size=50) | st.integers(-(2**63), 2**63 - 1) | st.just(b"x" * 70_000)


@given(st.lists(st.lists(WORDS, max_size=5).map(lambda words: ("GET", *words)), min_size=1, max_size=4))
def test_as_redis_py_packs(several: list[commands.Command]) -> None:
    assert packs_with_hiredis()
    connection = Connection()
    assert b"".join(commands.packed(connection, several)) == b"".join(connection.pack_commands(several))


def test_without_hiredis(monkeypatch: pytest.MonkeyPatch) -> None:
    pack_without_hiredis(monkeypatch)
    assert b"".join(commands.packed(Connection(), [("GET", "k")])) == b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
