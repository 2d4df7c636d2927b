"""Second processes for the tests: a function of a test module, run by a Python of its own.

    def count(parent: Parent, start: int) -> str:       # or a coroutine function
        parent.ready()
        while (step := parent.receive()) is not None:
            start += step
            parent.send(start)
        return "done"

    with spawn(count, 10) as process:
        process.ready()
        process.send(5)
        assert process.receive() == 15
        process.send(None)
        assert process.result() == "done"

The process runs with `-X dev` and warnings as errors, and must print nothing. What is passed either way may be anything
that pickle takes. Every wait is bounded. `tests/support/process_main.py` is the other end.

The process is a fork of one that has imported what layers need (`tests/support/zygote.py`). One that is given flags,
variables or a command is a new interpreter.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.child import Child, Started
from tests.support.guardian import guardian
from tests.support.zygote import FLAGS, Zygote

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
"""The longest wait for something that should happen at once."""
_OPTIONS = ("loop", "flags", "environment", "under", "inside")


class ProcessFailed(AssertionError):
    """A second process ended, printed or answered in an unexpected way; carries its output."""


class Process:
    """The test's end of a second process. As a context manager it must have ended in order by the end of the block."""

    def __init__(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> None:
        loop: str = options.pop("loop", "asyncio")
        command = options.keys() & {"flags", "environment", "under"}
        flags: tuple[str, ...] = options.pop("flags", FLAGS)
        environment: dict[str, str] = options.pop("environment", {})
        under: tuple[str, ...] = options.pop("under", ())
        inside: int | None = options.pop("inside", None)
        assert not options, f"spawn() knows no {', '.join(options)}"
        self.target = target
        self._directory = Path(tempfile.mkdtemp(prefix="hybrid-layer-process-"))
        guardian.watch("directory", self._directory)
        self._output = self._directory / "output"
        self._connection, theirs = Pipe()
        self._result: tuple[Any] | None = None
        self._ended = False
        try:
            self._child: Started
            if command:
                assert inside is None, "only a forked process is made inside of others' namespaces"
                self._child = Child(
                    [
                        *under,
                        sys.executable,
                        *flags,
                        "-m",
                        "tests.support.process_main",
                        str(theirs.fileno()),
                        target,
                        loop,
                    ],
                    output=self._output,
                    environment={**os.environ, "PYTHONPATH": _path(), **environment},
                    descriptors=[theirs.fileno()],
                )
            else:
                self._child = _zygote().fork(target, loop, os.environ, self._output, theirs.fileno(), inside)
        finally:
            theirs.close()
        self.send((args, kwargs))

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it lives; a paused one does."""
        return not self._ended and self._child.running

    @property
    def output(self) -> str:
        """Its output so far, on stdout and stderr."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def ready(self, seconds: float = SECONDS) -> Any:
        """Wait for its `parent.ready(value)` and return the value."""
        return self._expect("ready", seconds)

    def receive(self, seconds: float = SECONDS) -> Any:
        """Wait for its next `parent.send(value)` and return the value."""
        return self._expect("message", seconds)

    def has_news(self) -> bool:
        """Whether `receive` would return at once."""
        return self._connection.poll(0)

    def send(self, value: Any) -> None:
        """Give it a value: its next `parent.receive()`."""
        try:
            self._connection.send(value)
        except (BrokenPipeError, ConnectionResetError):
            raise ProcessFailed(
                self._complaint(f"ended with exit code {self.wait(SECONDS)}, and takes nothing")
            ) from None

    def result(self, seconds: float = SECONDS) -> Any:
        """Wait for its end, which must be in order and without output, and return what the function returned."""
        if self._result is None:
            self._result = (self._expect("result", seconds),)
            self._end(0, seconds)
        return self._result[0]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal, in the middle of whatever it does."""
        self._child.signal(number)
        self._end(-number, SECONDS)

    def pause(self) -> None:
        """Stop it where it is (SIGSTOP), and return once it is stopped."""
        self._child.pause()

    def resume(self) -> None:
        """Continue after `pause`."""
        self._child.resume()

    def close(self) -> bool:
        """Release everything; kill the process if it still lives, and return whether it did."""
        lived = self.running
        if not self._ended:
            self._child.signal(signal.SIGKILL)
            self._child.wait(SECONDS)
            self._child.end_group()
            self._ended = True
        if not self._connection.closed:
            self._connection.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        guardian.forget("directory", self._directory)
        return lived

    def _expect(self, kind: str, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        try:
            if not self._connection.poll(seconds):
                raise ProcessFailed(self._complaint(f"gave no {kind} within {seconds} s"))
            got, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            code = self.wait(max(0.1, deadline - time.monotonic()))
            raise ProcessFailed(self._complaint(f"ended with exit code {code} before it gave a {kind}")) from None
        if got != kind:
            raise ProcessFailed(self._complaint(f"gave a {got} where a {kind} was awaited: {value!r}"))
        return value

    def _end(self, expected: int, seconds: float) -> None:
        code = self.wait(seconds)
        left = self._child.end_group()
        self._ended = True
        if code != expected:
            raise ProcessFailed(self._complaint(f"ended with exit code {code} instead of {expected}"))
        if left:
            raise ProcessFailed(self._complaint(f"left processes behind: {left}"))
        if self.output:
            raise ProcessFailed(self._complaint("should have printed nothing"))

    def wait(self, seconds: float) -> int:
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(self._complaint(f"did not end within {seconds} s")) from None

    def _complaint(self, what: str) -> str:
        printed = self.output
        return f"{self!r} {what}" + (f"; it printed:\n{printed}" if printed else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.close() and error is None:
            refuse_left_running([self])

    def __repr__(self) -> str:
        return f"<process {self.pid}, {self.target}>"


def _path() -> str:
    # The run itself may have been given another redis-py by its PYTHONPATH.
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


@cache
def _zygote() -> Zygote:
    return Zygote(ROOT, _path())


def spawn(target: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Process:
    """Run `target`, a function at the top of a module or its "module:name", as `target(parent, *args, **kwargs)`.

    Five names are options of the process and do not reach the function: `loop` ("asyncio" or "uvloop", for a coroutine
    function), `flags` (the interpreter's), `environment` (added to this one's), `under` (a command that runs it) and
    `inside` (a process whose namespaces it is forked in; not with the three before).
    """
    if not isinstance(target, str):
        target = f"{target.__module__}:{target.__qualname__}"
    options: dict[str, Any] = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
    return Process(target, args, kwargs, options)


Spawn = Callable[..., Process]
"""The type of the fixture `spawn`."""


def refuse_left_running(processes: Sequence[Process]) -> None:
    """Fail if there are any: a test awaits the result of each process, or kills it."""
    if processes:
        raise ProcessFailed(f"{', '.join(map(repr, processes))} still ran at the end: await its result, or kill it")
