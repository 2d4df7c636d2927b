# SPDX-License-Identifier: BSD-3-Clause
"""Opens a session of a database: connects, sets it up, and makes the schema if that is missing."""

from __future__ import annotations

import psycopg
from psycopg import AsyncConnection, errors

from hybrid_layer.exceptions import ConfigurationError, RemoteUnavailable
from hybrid_layer.remote.postgres.hosts import Host
from hybrid_layer.remote.postgres.pooling import lends_transactions
from hybrid_layer.remote.postgres.schema import LOCK, REVISION, SCHEMA, script

_OLDEST = 140000
_SETUP = """
SELECT set_config(name, value, false) FROM (VALUES
    ('synchronous_commit', 'off'), ('default_transaction_isolation', 'read committed'),
    ('default_transaction_deferrable', 'off'), ('idle_session_timeout', '0'), ('lock_timeout', '0'),
    ('statement_timeout', %(timeout)s), ('jit', 'off'), ('plan_cache_mode', 'force_generic_plan'),
    ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off')
) settings (name, value) WHERE %(process)s IN (0, pg_backend_pid())
"""
# In the session of that process alone: one that a pooler lends is others', too.
# Isolation: with an older snapshot, a function would not see what came before it got a queue's lock. Plans must not
# depend on what a table happens to hold when a session begins: a queue that is empty then may be long later.


class NotReady(RemoteUnavailable, ConfigurationError):
    """The database cannot be used as it is. Receivers wait, and try again, as somebody may change that."""


async def open_session(host: Host, timeout: float) -> AsyncConnection:
    """A new session, ready to be used. Raises `RemoteUnavailable` or `psycopg.Error`."""
    parameters = host.parameters()
    connection = await AsyncConnection.connect(autocommit=True, **parameters)  # type: ignore[arg-type]
    try:
        version = connection.info.server_version
        if version < _OLDEST:
            raise NotReady(
                f"The server {host.label} is PostgreSQL {version // 10000}; hybrid_layer needs PostgreSQL 14 or newer."
            )
        settings = {"timeout": str(int(timeout * 1000)), "process": connection.info.backend_pid}
        is_direct = (await connection.execute(_SETUP, settings)).rowcount > 0
        if not is_direct and await lends_transactions(connection, parameters, timeout / 2):
            raise NotReady(
                f"{host.label} is a pooler that lends a session for one transaction, such as PgBouncer with "
                f"pool_mode=transaction; receivers need a session of their own. Give the address of the server itself, "
                f"or of a pool with pool_mode=session."
            )
        if not is_direct:
            await connection.execute(_SETUP, {**settings, "process": 0})
        if await _revision(connection, host) < REVISION:
            await _make_schema(connection, host)
    except BaseException:
        connection.pgconn.finish()
        raise
    return connection


async def _revision(connection: AsyncConnection, host: Host) -> int:
    try:
        row = await (await connection.execute(f"SELECT {SCHEMA}.revision()")).fetchone()
    except (errors.InvalidSchemaName, errors.UndefinedFunction):
        return 0
    except errors.InsufficientPrivilege as error:
        raise NotReady(
            f"The role {connection.info.user} may not use the schema {SCHEMA} on {host.label}. Its owner grants that "
            f"with: GRANT USAGE ON SCHEMA {SCHEMA} TO {connection.info.user}. ({_first_line(error)})"
        ) from None
    return 0 if row is None else int(row[0])


async def _make_schema(connection: AsyncConnection, host: Host) -> None:
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute(LOCK)
            if await _has_revision(connection):  # another process was faster
                return
            await connection.execute(script().encode())
    except errors.InsufficientPrivilege as error:
        raise NotReady(
            f"The schema {SCHEMA} of hybrid_layer is missing or too old on {host.label}, and the role "
            f"{connection.info.user} may not make it ({_first_line(error)}). As a role that may create schemas there, "
            f"run the SQL that `python -m hybrid_layer.postgres` prints, then: "
            f"GRANT USAGE ON SCHEMA {SCHEMA} TO {connection.info.user}."
        ) from None


async def _has_revision(connection: AsyncConnection) -> bool:
    found = await (await connection.execute("SELECT to_regprocedure(%s)::text", [f"{SCHEMA}.revision()"])).fetchone()
    if found is None or found[0] is None:
        return False
    row = await (await connection.execute(f"SELECT {SCHEMA}.revision()")).fetchone()
    return row is not None and int(row[0]) >= REVISION


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
