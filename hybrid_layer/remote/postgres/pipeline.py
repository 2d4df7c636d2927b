# SPDX-License-Identifier: BSD-3-Clause
"""The protocol of one session: calls in libpq's pipeline mode, by way of `psycopg.pq`, its low-level interface.

Calls that are sent together and each take the lock of one queue are one transaction; any other call is one of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import pq

from hybrid_layer.remote.postgres.statements import Statement

_AT_ONCE = 64
"""Most calls in one transaction: each holds locks until its end."""

Rows = list[tuple[Any, ...]]


class CallFailed(Exception):
    """A call failed. Which locks the session holds, and what it has prepared, is unknown."""


@dataclass(slots=True, eq=False)
class Call:
    """A call of a function."""

    statement: Statement
    params: Sequence[bytes | None]
    deadline: float
    future: asyncio.Future[Rows]
    key: int
    """The lock that a `batched` statement takes."""
    then: Callable[[Rows | None], None] | None
    """Called with the rows before anything that came later is looked at; with None if the call failed."""
    rows: Rows | None = None

    def succeed(self) -> None:
        """Pass the rows on."""
        if self.then is not None:
            self.then(self.rows)
        if not self.future.done():
            self.future.set_result(self.rows or [])

    def fail(self, error: Exception) -> None:
        """Pass `error` on."""
        if self.then is not None:
            self.then(None)
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # retrieved, since a caller that was cancelled meanwhile does not


class Pipeline:
    """The calls over one connection. `notified` gets channel and text of each notification.

    Its methods raise `psycopg.Error` if the connection is lost.
    """

    def __init__(self, pg: pq.abc.PGconn, notified: Callable[[str, bytes], None]) -> None:
        self._pg = pg
        self._notified = notified
        self._pending: deque[list[Call]] = deque()
        """The transactions under way."""
        self._prepared: set[Statement] = set()
        self._error = ""
        """That of the transaction under way."""
        pg.nonblocking = 1
        pg.enter_pipeline_mode()

    def unanswered(self) -> list[Call]:
        """The calls under way."""
        return [call for unit in self._pending for call in unit]

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not self._pending

    def send(self, calls: Sequence[Call]) -> None:
        """Send calls, in their order; `flush` has to follow."""
        units = _transactions(calls)
        self._pending.extend(units)
        for unit in units:
            for call in unit:
                statement = call.statement
                if statement not in self._prepared:
                    self._pg.send_prepare(statement.name, statement.sql)
                    self._prepared.add(statement)
                self._pg.send_query_prepared(statement.name, call.params, statement.formats, pq.Format.BINARY)
            self._pg.pipeline_sync()

    def flush(self) -> bool:
        """Write what can be written. Returns whether something is left."""
        return bool(self._pg.flush())

    def receive(self) -> None:
        """Read what has arrived and pass it on, in its order. Raises `CallFailed`, too."""
        self._pg.consume_input()
        has_ended = False
        while self._pending and not self._pg.is_busy():
            result = self._pg.get_result()
            if result is None:  # the end of one call's results
                if has_ended:
                    break
                has_ended = True
                continue
            has_ended = False
            self._take(result)
        self._pass_on()

    def _take(self, result: pq.abc.PGresult) -> None:
        status = result.status
        if status == pq.ExecStatus.PIPELINE_SYNC:
            self._pass_on()  # what was notified before
            self._end_transaction()
        elif status == pq.ExecStatus.TUPLES_OK:
            call = next(each for each in self._pending[0] if each.rows is None)
            call.rows = call.statement.rows(result)
        elif status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.PIPELINE_ABORTED):
            text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
            self._error = bytes(text).decode("utf-8", "replace") or "it failed"

    def _end_transaction(self) -> None:
        unit = self._pending[0]
        if self._error or any(call.rows is None for call in unit):
            raise CallFailed(self._error or "an answer is missing")
        self._pending.popleft()
        for call in unit:
            call.succeed()

    def _pass_on(self) -> None:
        while (note := self._pg.notifies()) is not None:
            self._notified(note.relname.decode(), note.extra)

    @property
    def error(self) -> str:
        """What the server said last before the connection was lost, or ""."""
        return self._error


def _transactions(calls: Sequence[Call]) -> list[list[Call]]:
    """The calls in order, those in a row that are `batched` together; these in the order of their locks.

    Two transactions that took their locks in different orders would wait for each other.
    """
    units: list[list[Call]] = []
    for call in calls:
        last = units[-1] if units else None
        if last is not None and call.statement.batched and last[0].statement.batched and len(last) < _AT_ONCE:
            last.append(call)
        else:
            units.append([call])
    for unit in units:
        if len(unit) > 1:
            unit.sort(key=lambda call: call.key)
    return units
