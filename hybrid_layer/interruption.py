# SPDX-License-Identifier: BSD-3-Clause
"""Tells exceptions of signal handlers from those of the code that was called.

A signal handler may raise at any moment, as Celery's does for a soft time limit. Code that catches every exception of a
serializer must not catch that.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from types import CodeType
from typing import Any


def is_foreign(error: Exception) -> bool:
    """Whether a signal handler or a lack of memory raised `error`, and not the code that was running."""
    if isinstance(error, MemoryError):
        return True
    handlers = set(_codes_of_handlers())
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code in handlers:
            return True
        at = at.tb_next
    return False


def _codes_of_handlers() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        for function in (handler, getattr(handler, "__func__", None), getattr(type(handler), "__call__", None)):  # noqa: B004
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType):
                yield code
