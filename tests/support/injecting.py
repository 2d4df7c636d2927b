"""Event loops whose long-lived tasks meet an exception where they await for the n-th time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

PLAIN = (
    "InboxReader._run",
    "Subscriber._run",
    "PipelinedConnection._run",
)
"""Tasks named by their coroutine. Others are named by the work that they keep going."""


class Injector:
    """Throws one exception into one task. Any thread may use it."""

    def __init__(self) -> None:
        self._target = ""
        self._left = 0
        self._error: type[BaseException] = RuntimeError
        self.met: set[str] = set()
        """The tasks that awaited anything so far."""

    def arm(self, target: str, number: int, error: type[BaseException]) -> None:
        """Throw `error` where tasks called `target` continue after their `number`-th await, counted from now."""
        self._target, self._left, self._error = target, number, error

    @property
    def has_thrown(self) -> bool:
        """Whether the await was reached."""
        return self._left == 0

    def fault_of(self, name: str) -> BaseException | None:
        """The error that a task of this name meets now."""
        self.met.add(name)
        if name == self._target and self._left:
            self._left -= 1
            if not self._left:
                return self._error("injected")
        return None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be asked by the tasks that `loop` has from now on."""
        loop.set_task_factory(self._task)

    def _task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        name = _name_of(coroutine)
        return asyncio.Task(_Faulty(self, name, coroutine) if name else coroutine, loop=loop, **options)


class _Faulty(Coroutine[Any, Any, Any]):
    def __init__(self, injector: Injector, name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._injector = injector
        self._name = name
        self._coroutine = coroutine
        self._has_begun = False

    def send(self, value: Any) -> Any:
        fault = self._injector.fault_of(self._name) if self._has_begun else None
        self._has_begun = True
        return self._coroutine.send(value) if fault is None else self._coroutine.throw(fault)

    def throw(self, *args: Any) -> Any:
        return self._coroutine.throw(*args)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError


def _name_of(coroutine: Any) -> str:
    name = str(getattr(coroutine, "__qualname__", ""))
    if name == "keep_going":
        return str(coroutine.cr_frame.f_locals["what"])
    return name if name in PLAIN else ""
