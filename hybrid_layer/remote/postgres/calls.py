# SPDX-License-Identifier: BSD-3-Clause
"""One call of a function in the database, and whom its answer is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_layer.remote.postgres.statements import Argument, Statement

Rows = list[tuple[Any, ...]]


@dataclass(slots=True, eq=False)
class Call:
    """A call of a function."""

    statement: Statement
    arguments: Sequence[Argument]
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
