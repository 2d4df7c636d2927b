# SPDX-License-Identifier: BSD-3-Clause
"""Restarts long-lived tasks after an unexpected exception.

The exception is logged with its traceback, once per minute and kind, and counted as ``errors``. The task starts again
after a pause, which doubles up to 5 s while the task keeps failing. A cancellation, SystemExit or KeyboardInterrupt
ends it.

Tasks and callbacks that outlive the call that starts them start in an empty context. Otherwise they would keep that
caller's context variables for as long as the event loop lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from hybrid_layer.clock import monotonic
from hybrid_layer.statistics import warn
from hybrid_layer.timers import sleep

P = ParamSpec("P")
T = TypeVar("T")

Count = Callable[[str], None]

_FIRST_PAUSE = 0.02
LAST_PAUSE = 5.0
"""Pauses before a task starts again, in seconds."""


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function`, such as ``loop.create_task`` or ``loop.add_reader``, in an empty context, for what it starts.

    Event loops and task factories of other libraries may not know the argument ``context``.
    """
    return contextvars.Context().run(function, *args, **kwargs)


def start_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` as a task of `loop`, the running loop, in an empty context."""
    return apart(loop.create_task, work)


async def keep_going(
    what: str, work: Callable[[], Awaitable[None]], count: Count | None, last_pause: float = LAST_PAUSE
) -> None:
    """Run `work()` until it returns, and again after each unexpected exception.

    `what` is its name in the log, `count` counts the errors, and `last_pause` is the longest pause, in seconds.
    """
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE
    while True:
        began = monotonic()
        try:
            await work()
            return
        except Exception as error:  # noqa: BLE001  # it is reported, unless the loop is closed
            if loop.is_closed():
                return  # the garbage collector ends a task that was left pending
            report(what, error, count)
        if monotonic() - began > LAST_PAUSE:  # it worked for a while
            pause = _FIRST_PAUSE
        await sleep(min(pause, last_pause))
        pause = min(2 * pause, LAST_PAUSE)


@dataclass(slots=True, eq=False)
class Guard:
    """``with guard:`` reports an unexpected exception of the block, calls `on_error` with it, and suppresses it."""

    what: str
    count: Count | None
    on_error: Callable[[Exception], object] | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        report(self.what, error, self.count)
        if self.on_error is not None:
            self.on_error(error)
        return True


def report(what: str, error: BaseException, count: Count | None) -> None:
    """Count and log `error`, an unexpected one that `what` has met."""
    with contextlib.suppress(Exception):  # this may fail, too, where memory is used up
        if count is not None:
            count("errors")
        warn(
            ("unexpected", what, type(error)),
            f"{what[:1].upper()}{what[1:]} met an unexpected error and continues. Please report it with this "
            f"traceback.",
            error,
        )
