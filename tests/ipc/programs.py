"""Processes of a segment that are written in C: `core/stopper.c` and `core/crowd.c`, compiled when first asked for."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil

from hybrid_layer.ipc.objects import lock_bearer, segment_name
from tests.ipc.compiling import HERE, compile_all, link
from tests.ipc.tools import core_sources
from tests.support.guardian import guardian, kill_group
from tests.support.probe import posix_name


def compile_programs(directory: Path) -> Path:
    """The core without Python and the programs, without the checks of `test_core`, which would slow them down."""
    sources = [*core_sources(), *(HERE / f"{name}.c" for name in ("support", "stopper", "crowd"))]
    *parts, stopper, crowd = compile_all(sources, directory)
    for program in (stopper, crowd):
        link(program.with_suffix(""), [program, *parts])
    return directory


class Program:
    """A running one."""

    def __init__(self, program: Path, prefix: str, *arguments: str) -> None:
        name = segment_name(prefix, os.geteuid())
        self._popen = subprocess.Popen(
            [program, f"/dev/shm{posix_name(name)}", lock_bearer(name), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        guardian.watch("group", self.pid)

    def kill(self) -> None:
        """End it where it is."""
        kill_group(self.pid)
        self._popen.communicate()
        guardian.forget("group", self.pid)

    def leave(self) -> None:
        """End it in order."""
        self._popen.communicate(timeout=60)
        guardian.forget("group", self.pid)
        assert self._popen.returncode == 0

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n")

    def expect(self, line: str) -> None:
        """Wait for its next line, which must be this."""
        assert self._popen.stdout is not None
        assert self._popen.stdout.readline() == f"{line}\n"


class Stopper(Program):
    """`stop` returns when it stands inside the lock, `go_on` when it has given the lock back."""

    def __init__(self, directory: Path, prefix: str) -> None:
        super().__init__(directory / "stopper", prefix)
        self.expect("ready")

    def stop(self) -> None:
        """Take the lock and stop inside."""
        self.tell("")
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)
        assert psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def go_on(self) -> None:
        """Continue, and give the lock back."""
        self._popen.send_signal(signal.SIGCONT)
        self.expect("gave")


class Crowd(Program):
    """`number` processes that have joined the segment."""

    def __init__(self, directory: Path, prefix: str, number: int) -> None:
        super().__init__(directory / "crowd", prefix, str(number))
        self.expect(str(number))

    def lose(self, how: str) -> None:
        """One of them ends: "leave" or "kill"."""
        self.tell(how)
        self.expect("gone")
