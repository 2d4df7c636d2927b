# SPDX-License-Identifier: BSD-3-Clause
"""Tasks whose event loop was closed without notice."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hybrid_layer.loops import leave_pending

_AWAITS = 5
"""More than any clean-up nests."""


def end_orphan(task: asyncio.Task[Any]) -> None:
    """End `task`, whose loop is closed. Left to the garbage collector, its coroutine would warn."""
    leave_pending(task)
    coroutine = task.get_coro()
    for _ in range(_AWAITS):
        try:
            if isinstance(coroutine, Coroutine):
                coroutine.close()
            return
        except Exception:  # noqa: BLE001  # its clean-up awaited something, for which there is no loop
            continue
