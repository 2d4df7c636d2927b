"""Runs programs until Ctrl-C, and ends them in order: what `run.py` and `three_machines.py` have in common."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

import psutil

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"  # no login, hence nobody but this machine
END_SECONDS = 10

LIBC = ctypes.CDLL(None)  # loaded here, because nothing should be between fork and exec
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Stop(Exception):
    """Ends everything; the text, if any, is what went wrong."""


class Programs:
    """Some programs. A subclass says which."""

    def __init__(self) -> None:
        self.asked_to_stop = False

    def start(self) -> None:
        raise NotImplementedError

    def look_after(self) -> None:
        """Raise `Stop` if one has ended that should not have."""
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def run(self) -> int:
        """Until Ctrl-C. Returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        try:
            self.start()
            self.watch()
        except Stop as stop:
            if stop.args:
                say(stop.args[0], sys.stderr)
                return 1
            return 0
        finally:
            self.end()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Only noted here, and acted on between two steps, so that nothing is left half-started."""
        self.asked_to_stop = True

    def watch(self) -> NoReturn:
        while True:
            self.pause(0.5)

    def pause(self, seconds: float) -> None:
        """Sleep, then look after the programs."""
        if not self.asked_to_stop:
            time.sleep(seconds)
        if self.asked_to_stop:
            raise Stop
        self.look_after()


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """In a process group of its own: Ctrl-C reaches this process only, which then ends the others in order."""
    return subprocess.Popen(
        command,
        cwd=HERE,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )


def end_with_parent() -> None:
    """In the child: should this process be killed before it can end its children, the kernel sends them SIGTERM."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(child: subprocess.Popen[bytes], seconds: float = END_SECONDS) -> None:
    """Ask it, then wait for everything that it started, then use force on what is left."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)  # and not SIGTERM, which runworker does not know
    else:
        signal_group(child, signal.SIGTERM)  # what it left behind has nobody else to tell it
    deadline = time.monotonic() + seconds
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    if alive(child):
        say(f"  process {child.pid} or a child of it did not end in {seconds} seconds; killed", sys.stderr)
        signal_group(child, signal.SIGKILL)
    child.wait()


def signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def alive(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child, or anything that it started, still runs. A zombie that nobody waits for does not count."""
    child.poll()
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getpgid(process.pid) == child.pid and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream or sys.stdout, flush=True)
