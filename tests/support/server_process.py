"""What servers of all kinds have that the tests run: a process, a directory and its output, a begin and an end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.child import Child
from tests.support.closing import Closing
from tests.support.guardian import guardian
from tests.support.waiting import block_until

START_SECONDS = 10.0
STOP_SECONDS = 5.0


class ServerError(Exception):
    """A server could not be started or did not end."""


class ServerProcess(Closing):
    """One server. As a context manager it ends with the block."""

    def __init__(self, kind: str, host: str, port: int) -> None:
        self.kind = kind
        self.host = host
        self.port = port
        self.directory = Path(tempfile.mkdtemp(prefix=f"hybrid-layer-{kind}-"))
        guardian.watch("directory", self.directory)
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The server's first process. An error while it does not run."""
        return self._running_child().pid

    @property
    def running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self._child is not None and self._child.running

    @property
    def log(self) -> str:
        """The server's output so far."""
        return (self.directory / "log").read_text(errors="replace")

    def pause(self) -> None:
        """Stop it where it is: connections stay open and no answer comes."""
        self._running_child().pause()

    def resume(self) -> None:
        """Continue after `pause`."""
        self._running_child().resume()

    @abstractmethod
    def stop(self) -> None:
        """End it in order; paused ones too. Nothing happens if it has ended already."""

    def restart(self) -> None:
        """Start it again on the same port; one that runs is stopped first."""
        self.stop()
        self._start()

    def close(self) -> None:
        """Stop it and remove its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        guardian.forget("directory", self.directory)

    @abstractmethod
    def _start(self) -> None:
        """Start it, and wait until it answers."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it serves."""

    def _running_child(self) -> Child:
        assert self._child is not None, f"{self!r}: start it first"
        return self._child

    def _run(self, command: Sequence[Any], environment: Mapping[str, str] | None) -> None:
        """Start the process, and wait until it answers."""
        self._child = Child(command, output=self.directory / "log", environment=environment)
        try:
            block_until(lambda: self._answers() or not self.running, "it answers", START_SECONDS)
        except AssertionError:
            raise ServerError(f"{self!r} does not answer: {self.log[-2000:]}") from None
        if not self.running:
            raise ServerError(f"{self!r} ended at once: {self.log[-2000:]}")

    def _ended(self) -> None:
        """Wait until the process, which was told to end, has ended."""
        child, self._child = self._running_child(), None
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.signal(signal.SIGKILL)
            child.wait(STOP_SECONDS)
            raise ServerError(f"{self!r} did not end within {STOP_SECONDS} s: {self.log[-2000:]}") from None
        finally:
            child.end_group()

    def __repr__(self) -> str:
        return f"<{self.kind} server {self.host}:{self.port}{'' if self.running else ', stopped'}>"
