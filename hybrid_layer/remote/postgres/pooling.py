# SPDX-License-Identifier: BSD-3-Clause
"""Tells whether a host leads to a pooler that lends a session for one transaction, as PgBouncer may.

LISTEN and locks of a session are lost there, or stay with a stranger, and no error says so. A pooler that lends a
session for as long as the client stays does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import AsyncConnection

from hybrid_layer.timers import time_limit

_MARK = """
SELECT pg_backend_pid(), coalesce(current_setting('hybrid_layer.marked', true), ''),
    set_config('hybrid_layer.marked', 'yes', false)
"""


async def lends_transactions(connection: AsyncConnection, parameters: Mapping[str, str], seconds: float) -> bool:
    """Whether each transaction of `connection`, whose `parameters` these are, may run in another session.

    A pooler gets so many `seconds` to answer a second client.

    A server names the process of a session when it lets a client in. A pooler names no process of the server. If a new
    client then finds a mark in its session, another client has had that session before.
    """
    pid, is_marked = await _mark(connection)
    if pid == connection.info.backend_pid:
        return False
    if is_marked:
        return True
    try:
        async with time_limit(seconds):
            other = await AsyncConnection.connect(autocommit=True, **parameters)  # type: ignore[arg-type]
            try:
                return (await _mark(other))[1]
            finally:
                other.pgconn.finish()
    except (psycopg.Error, OSError, TimeoutError):
        return False  # there is no second session: it cannot be told


async def _mark(connection: AsyncConnection) -> tuple[int, bool]:
    """The process of the session, and whether there was a mark before."""
    row = await (await connection.execute(_MARK)).fetchone()
    return (0, False) if row is None else (int(row[0]), row[1] == "yes")
