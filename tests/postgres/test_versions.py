"""The versions of PostgreSQL that this machine has: the system's, and the newest from a package."""

from __future__ import annotations

import pytest

from tests.remote.tools import Make, exchange
from tests.support.postgres import POSTGRES_KINDS, NewPostgresServer, PostgresKind, find_programs


@pytest.mark.thorough
@pytest.mark.parametrize("kind", POSTGRES_KINDS)
async def test_messages(make_layer: Make, new_postgres_server: NewPostgresServer, kind: PostgresKind) -> None:
    if find_programs(kind) is None:
        pytest.skip(f"there is no {kind} for this kind of machine")
    server = new_postgres_server(kind)
    for remote in ("queue", "pubsub"):
        await exchange(make_layer(hosts=[server.url], remote=remote))
