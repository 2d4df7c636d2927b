"""Tells what foreign code raises into ours from what the called code raises itself.

A signal handler may raise at any moment, such as Celery's for a soft time limit. Whoever catches all that a serializer
may raise must let that through.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from types import CodeType
from typing import Any


def is_foreign(error: Exception) -> bool:
    """Whether `error` came from a signal handler, or from want of memory, and not from what was being done."""
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
