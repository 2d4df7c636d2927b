"""A program that a test starts: in a process group of its own, its output in a file, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.support.guardian import guardian, kill_group
from tests.support.waiting import block_until


class Started:
    """A process that a test started, in a group of its own. Its test calls `wait`, perhaps after a signal."""

    pid: int

    @property
    def running(self) -> bool:
        """Whether it lives; a paused one does."""
        raise NotImplementedError

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        raise NotImplementedError

    def wait(self, seconds: float) -> int:
        """Its exit code, negative for a signal; `subprocess.TimeoutExpired` if it takes longer."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stop it where it is (SIGSTOP), and return once it is stopped."""
        self.signal(signal.SIGSTOP)
        try:
            process = psutil.Process(self.pid)
            stands = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
            block_until(lambda: process.status() in stands, f"process {self.pid} stands")
        except psutil.NoSuchProcess:  # it has just ended, and another process was its parent
            pass

    def resume(self) -> None:
        """Continue after `pause`."""
        self.signal(signal.SIGCONT)

    def end_group(self) -> list[int]:
        """After the end: kill the processes that it forked and left behind, and return their numbers."""
        left = _living_members(self.pid)
        kill_group(self.pid)
        guardian.forget("group", self.pid)
        return left


class Child(Started):
    """A started program."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        output: Path,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        with output.open("ab") as file:
            # A session of its own: Ctrl-C in the terminal belongs to the test run, which then ends its children itself.
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=descriptors,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        guardian.watch("group", self.pid)

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self, seconds: float) -> int:
        return self._popen.wait(seconds)


def _living_members(group: int) -> list[int]:
    """Zombies without a waiting parent stay members of their group, so that a signal alone cannot show it."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return members
