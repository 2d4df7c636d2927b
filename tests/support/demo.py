"""The example site for the tests: run as `make demo` runs it, on a port and with a prefix of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psutil

from hybrid_layer import HybridChannelLayer
from tests.support.child import Child
from tests.support.closing import Closing
from tests.support.guardian import guardian
from tests.support.servers import HOST, free_port
from tests.support.waiting import block_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat"
START_SECONDS = 40.0
STOP_SECONDS = 30.0


class Demo(Closing):
    """One running demo. As a context manager it is killed at the end of the block if it still lives."""

    def __init__(self, port: int | None = None, hosts: str = "") -> None:
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.prefix = f"demo-{secrets.token_hex(6)}"
        self.hosts = hosts
        self._directory = Path(tempfile.mkdtemp(prefix="hybrid-layer-demo-"))
        guardian.watch("directory", self._directory)
        self._output = self._directory / "output"
        self._child = Child(
            [sys.executable, EXAMPLE / "run.py"],
            output=self._output,
            environment=self.environment | {"PORT": str(self.port)},
        )
        self.pid = self._child.pid
        self._family: list[psutil.Process] = []
        self._shared: set[Path] = set()

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to talk to the demo's processes through the layer."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("HYBRID_", "DJANGO_"))}
        return own | {"HYBRID_LAYER_PREFIX": self.prefix, "HYBRID_LAYER_HOSTS": self.hosts}

    @property
    def output(self) -> str:
        """The output of the demo so far."""
        return self._output.read_text(errors="replace")

    def start(self) -> Self:
        """Wait until it says that it is ready."""
        self.wait_for(f"Chat: {self.url}", START_SECONDS)
        self.family()
        return self

    def wait_for(self, text: str, seconds: float = STOP_SECONDS) -> None:
        """Wait until it has printed `text`."""

        def has_printed() -> bool:
            assert self._child.running, "the demo ended"
            return text in self.output

        try:
            block_until(has_printed, f"the demo prints {text!r}", seconds)
        except AssertionError as error:
            error.add_note(f"It printed:\n{self.output}")
            raise

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def shared_files(self) -> set[Path]:
        """What its processes have mapped of /dev/shm and that still exists."""
        lines = []
        for process in self.family():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines += Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        self._shared |= {Path(line.split()[5]) for line in lines if " /dev/shm/hybrid_layer." in line}
        return {path for path in self._shared if path.exists()}

    def family(self) -> list[psutil.Process]:
        """Every process of the demo that was seen so far, the parents first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            run = psutil.Process(self.pid)
            self._family += [process for process in [run, *run.children(recursive=True)] if process not in self._family]
        return self._family

    def of_kind(self, part: str) -> psutil.Process:
        """The living process whose command line has `part` in it."""
        (found,) = [p for p in self.family() if p.is_running() and part in " ".join(p.cmdline())]
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to `run.py` alone, as `kill` does."""
        self.family()
        self._child.signal(number)

    def wait(self, again: signal.Signals | None = None) -> int:
        """The exit code, once it has ended. No process of it may be left then.

        With `again`, another signal follows if it runs for five more seconds, as a person would press Ctrl-C again:
        Python itself swallows the exception where it comes in a callback of an import.
        """
        try:
            code = self._child.wait(STOP_SECONDS if again is None else 5)
        except subprocess.TimeoutExpired:
            if again is None:
                raise
            self.signal(again)
            code = self._child.wait(STOP_SECONDS)
        self._child.end_group()
        assert not (left := self.wait_for_family()), f"still running: {left}; the demo printed:\n{self.output}"
        return code

    def wait_for_family(self) -> list[psutil.Process]:
        """Wait until no process of it runs any more, and return those that nevertheless do."""
        with contextlib.suppress(AssertionError):
            block_until(lambda: not any(map(_lives, self._family)), "all have ended", STOP_SECONDS)
        return [p for p in self._family if _lives(p)]

    def close(self) -> None:
        """Kill the processes that still live."""
        if self._child.running:
            self.family()
            self._child.signal(signal.SIGKILL)
            self._child.wait(STOP_SECONDS)
            self._child.end_group()
        for process in self._family:
            if _lives(process):
                process.kill()
        # Killed processes leave their segment to the next one that starts and ends. In a thread, because
        # playwright has an event loop in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(HybridChannelLayer(prefix=self.prefix).flush())).result()
        shutil.rmtree(self._directory, ignore_errors=True)
        guardian.forget("directory", self._directory)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
