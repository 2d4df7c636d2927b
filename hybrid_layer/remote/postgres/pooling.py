# SPDX-License-Identifier: BSD-3-Clause
"""Tells whether a host leads to a pooler that lends a session for one transaction, as PgBouncer may.

LISTEN and locks of a session are lost there, or stay with a stranger, and no error says so. A pooler that lends a
session for as long as the client stays does no harm. It names no process of the server when it lets a client in, so
only where that differs need anybody ask here.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import AsyncConnection

from hybrid_layer.timers import time_limit

_ROUNDS = 5
"""Questions to each of two clients: others may use the session that both would get."""


async def lends_transactions(connection: AsyncConnection, parameters: Mapping[str, str], seconds: float) -> bool:
    """Whether each transaction of `connection`, whose `parameters` these are, may run in another session.

    A second client shows it: one of them is served by another process than before, or both by the same. The pooler gets
    so many `seconds` to answer.
    """
    ours: set[int] = set()
    theirs: set[int] = set()
    try:
        async with time_limit(seconds):
            other = await AsyncConnection.connect(autocommit=True, **parameters)  # type: ignore[arg-type]
            try:
                for _ in range(_ROUNDS):
                    ours.add(await _process(connection))
                    theirs.add(await _process(other))
                    if len(ours) > 1 or len(theirs) > 1 or ours & theirs:
                        return True
            finally:
                other.pgconn.finish()
    except (psycopg.Error, OSError, TimeoutError):
        pass  # there is no second session: it cannot be told
    return False


async def _process(connection: AsyncConnection) -> int:
    """The process that serves it."""
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    return 0 if row is None else int(row[0])
