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

_PID = "SELECT pg_backend_pid()"
_ANSWER = 1.0
"""Seconds that the pooler may take for one of the two looks."""


async def lends_transactions(connection: AsyncConnection, parameters: Mapping[str, str]) -> bool:
    """Whether each transaction of `connection`, whose `parameters` these are, may run in another session.

    A server names the process of a session when it lets a client in. A pooler names no process of the server.
    """
    pid = await _pid(connection)
    if pid == connection.info.backend_pid:
        return False
    # While this connection is idle, another one gets its session, unless that is reserved for it.
    try:
        async with time_limit(_ANSWER):
            other = await AsyncConnection.connect(**parameters)  # type: ignore[arg-type]
    except (psycopg.Error, OSError, TimeoutError):
        return False  # it has no second session: it cannot be told
    try:
        async with time_limit(_ANSWER):
            taken = await _pid(other)  # in a transaction, which holds the session
    except (psycopg.Error, OSError, TimeoutError):
        return False
    else:
        return taken == pid
    finally:
        other.pgconn.finish()


async def _pid(connection: AsyncConnection) -> int:
    row = await (await connection.execute(_PID)).fetchone()
    return 0 if row is None else int(row[0])
