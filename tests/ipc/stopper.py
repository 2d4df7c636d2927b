"""A process that stands still inside a segment's lock: `core/stopper.c`, compiled when first asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from hybrid_layer.ipc.objects import _posix_name, lock_bearer
from hybrid_layer.ipc.segment import segment_name
from tests.guardian import guardian, kill_group
from tests.ipc.tools import CORE, core_sources

HERE = Path(__file__).parent / "core"


def compile_stopper(directory: Path) -> Path:
    """The core without Python and the program, without the checks of `test_core`, which would slow it down."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or "cc"
    sources = [*core_sources(), HERE / "support.c", HERE / "stopper.c"]
    objects = [directory / f"{source.stem}.o" for source in sources]

    def compile_one(pair: tuple[Path, Path]) -> None:
        command = [compiler, "-std=c11", "-pthread", f"-I{CORE}", "-c", pair[0], "-o", pair[1]]
        subprocess.run(command, check=True, timeout=100)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, zip(sources, objects, strict=True)))
    program = directory / "stopper"
    subprocess.run([compiler, "-pthread", *objects, "-o", program], check=True, timeout=100)
    return program


class Stopper:
    """The running program. `stop` returns when it stands inside the lock, `go_on` when it has given the lock back."""

    def __init__(self, program: Path, prefix: str) -> None:
        name = segment_name(prefix, os.geteuid())
        self._popen = subprocess.Popen(
            [program, f"/dev/shm{_posix_name(name)}", lock_bearer(name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        guardian.watch("group", self.pid)
        self._expect("ready")

    def stop(self) -> None:
        """Take the lock and stop inside."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("\n")
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)
        assert psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def go_on(self) -> None:
        """Continue, and give the lock back."""
        self._popen.send_signal(signal.SIGCONT)
        self._expect("gave")

    def kill(self) -> None:
        """End it where it is."""
        kill_group(self.pid)
        self._popen.communicate()
        guardian.forget("group", self.pid)

    def leave(self) -> None:
        """End it in order."""
        self._popen.communicate(timeout=20)
        guardian.forget("group", self.pid)
        assert self._popen.returncode == 0

    def _expect(self, line: str) -> None:
        assert self._popen.stdout is not None
        assert self._popen.stdout.readline() == f"{line}\n"
