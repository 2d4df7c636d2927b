# SPDX-License-Identifier: BSD-3-Clause
"""A look at the databases for tools: nothing is written there, not even the schema."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
from psycopg import AsyncConnection, errors

from hybrid_layer.clock import monotonic
from hybrid_layer.configuration import ServerOptions
from hybrid_layer.remote.postgres.hosts import Host, parse_hosts
from hybrid_layer.remote.postgres.schema import SCHEMA
from hybrid_layer.remote.server_state import ServerState
from hybrid_layer.timers import time_limit

_COLUMNS = {"message": "queue", "member": "grp", "alive": "name"}
"""What rows of a prefix are counted, by table, and the column that begins with the prefix."""
_ANSWER = 0.1
"""Seconds of the time limit that are kept for the answer to the last question."""


async def inspect(options: ServerOptions, prefix: str, timeout: float, count_keys: bool) -> list[ServerState]:
    """The state of each database, in the order of `hosts`. All are asked at once, for at most `timeout` seconds."""
    deadline = monotonic() + timeout
    return await asyncio.gather(
        *(_look(host, prefix if count_keys else None, deadline) for host in parse_hosts(options))
    )


async def _look(host: Host, prefix: str | None, deadline: float) -> ServerState:
    state = ServerState(host.label)
    try:
        async with time_limit(deadline - monotonic()), _session(host) as connection:
            version = connection.info.server_version
            state.version = f"postgresql {version // 10000}.{version % 10000}"
            began = monotonic()
            await connection.execute("SELECT 1")
            state.round_trip = monotonic() - began
            if prefix is not None:
                await _count(connection, state, prefix, deadline)
    except (psycopg.Error, OSError, TimeoutError) as error:
        state.error = str(error).strip().partition("\n")[0] or "no answer in time"
    except Exception as error:  # noqa: BLE001  # of what looks up the parameters
        state.error = repr(error)
    return state


@contextlib.asynccontextmanager
async def _session(host: Host) -> AsyncIterator[AsyncConnection]:
    connection = await AsyncConnection.connect(autocommit=True, **host.parameters())  # type: ignore[arg-type]
    try:
        yield connection
    finally:
        connection.pgconn.finish()


async def _count(connection: AsyncConnection, state: ServerState, prefix: str, deadline: float) -> None:
    """A role that may use the layer need not have rights on its tables: then this is skipped."""
    for table, column in _COLUMNS.items():
        left = int(1000 * (deadline - _ANSWER - monotonic()))
        await connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(max(1, left))])
        count = f"SELECT count(*) FROM {SCHEMA}.{table} WHERE {column} >= %s AND {column} < %s"
        try:
            found = await (await connection.execute(count.encode(), [f"{prefix}|", f"{prefix}}}"])).fetchone()
        except (errors.InvalidSchemaName, errors.UndefinedTable):  # the first process of the site makes it
            return
        except errors.InsufficientPrivilege:
            state.skipped.append("counting")
            return
        except errors.QueryCanceled:
            state.all_keys = False
            return
        if found is not None and found[0]:
            state.keys[table] = found[0]
