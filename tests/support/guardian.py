"""Ends the processes that a test run started, however the run itself ends.

Finalizers do not run when pytest is killed, so a small process watches: it holds the reading end of a pipe whose only
writing end is in the test run, and gets the name of each process group and directory that exists. When the pipe closes,
it kills and removes those that still exist. Process groups, because a second process may have forked.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import threading


class Guardian:
    """The test run's side: starts the watching process when the first name is reported."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watcher: subprocess.Popen[bytes] | None = None

    def watch(self, kind: str, name: object) -> None:
        """`name` must not outlive the run: the number of a process group (kind "group") or a path ("directory")."""
        self._tell(f"+ {kind} {name}\n")

    def forget(self, kind: str, name: object) -> None:
        """`name` is gone. Call it before its number can belong to another."""
        self._tell(f"- {kind} {name}\n")

    def close(self) -> None:
        """End what is left now, as at the end of the run."""
        with self._lock:
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            assert watcher.stdin is not None
            watcher.stdin.close()
            watcher.wait()

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._watcher is None:
                # In a session of its own, so that Ctrl-C in the terminal ends the run and not the guardian.
                self._watcher = subprocess.Popen(
                    [sys.executable, "-I", __file__], stdin=subprocess.PIPE, bufsize=0, start_new_session=True
                )
                atexit.register(self.close)
            assert self._watcher.stdin is not None
            self._watcher.stdin.write(line.encode())


guardian = Guardian()


def kill_group(number: int) -> None:
    """Kill everything in the process group."""
    try:
        os.killpg(number, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main() -> None:
    """The watching process."""
    left: set[tuple[str, str]] = set()
    for line in sys.stdin:
        sign, kind, name = line.rstrip("\n").split(" ", 2)
        (left.add if sign == "+" else left.discard)((kind, name))
    # Groups before directories: a server that lives could write into its own again.
    for kind, name in sorted(left, reverse=True):
        if kind == "group":
            kill_group(int(name))
        else:
            shutil.rmtree(name, ignore_errors=True)


if __name__ == "__main__":
    main()
