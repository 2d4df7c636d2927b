"""Keeps long-lived tasks going when an exception that nobody expected would end them.

Such an exception is reported, with its traceback once per minute and kind, and counted as ``errors``. The task begins
anew, after a pause that doubles up to 5 s while it goes on failing. A cancellation, SystemExit and KeyboardInterrupt
end it.

Tasks and callbacks that outlive the call which needs them first begin in an empty context. Else they would keep that
caller's context variables for as long as the event loop lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from hybrid_layer.clock import monotonic
from hybrid_layer.statistics import warn
from hybrid_layer.timers import sleep

P = ParamSpec("P")
T = TypeVar("T")

Count = Callable[[str], None]

_FIRST_PAUSE = 0.02
LAST_PAUSE = 5.0
"""Pauses before a task begins anew, in seconds."""


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``loop.create_task``, ``loop.call_later`` or ``loop.add_reader`` so that what begins has an empty context.

    Task factories and event loops of other libraries need not know the argument ``context`` for this.
    """
    return contextvars.Context().run(function, *args, **kwargs)


def start_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work`, which may live long, as a task of `loop`, which runs here."""
    return apart(loop.create_task, work)


async def keep_going(
    what: str, work: Callable[[], Awaitable[None]], count: Count | None, last_pause: float = LAST_PAUSE
) -> None:
    """Run `work()` until it returns, anew after each exception that it did not expect.

    `what` is its name in the log, `count` counts the errors, and `last_pause` (seconds) limits the pauses.
    """
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE
    while True:
        began = monotonic()
        try:
            await work()
            return
        except Exception as error:  # noqa: BLE001  # it is reported, or of no loop any more
            if loop.is_closed():
                return  # this is the garbage collector, who ends what was left pending
            report(what, error, count)
        if monotonic() - began > LAST_PAUSE:  # it went well for a while
            pause = _FIRST_PAUSE
        await sleep(min(pause, last_pause))
        pause = min(2 * pause, LAST_PAUSE)


class Guard:
    """``with guard:`` goes on behind the block when that met an exception which it did not expect.

    Before, the exception is reported, and `on_error` is called with it.
    """

    __slots__ = ("_count", "_on_error", "_what")

    def __init__(self, what: str, count: Count | None, on_error: Callable[[Exception], object] | None = None) -> None:
        self._what = what
        self._count = count
        self._on_error = on_error

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        report(self._what, error, self._count)
        if self._on_error is not None:
            self._on_error(error)
        return True


def report(what: str, error: BaseException, count: Count | None) -> None:
    """Count `error`, which nobody expected, and log it. `what` has met it and goes on."""
    with contextlib.suppress(Exception):  # where memory is used up, even this may fail, and `what` has to go on
        if count is not None:
            count("errors")
        warn(
            ("unexpected", what, type(error)),
            "%s met an unexpected error and goes on. Please report it with this traceback.",
            what[:1].upper() + what[1:],
            error=error,
        )
