"""Where the tests' second processes come from: a fork of one that has imported everything, not a new interpreter.

An interpreter with the imports of a layer takes more than half a second of a processor, a fork some milliseconds. The
zygote has imported modules and has used none of them; what it forks is a process of its own with an ordinary end. The
zygote forks a *keeper* for each, which waits for its end and reports it to the test: only a parent may.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import namespaces
from tests.support.child import Started
from tests.support.guardian import guardian

FLAGS = ("-X", "dev", "-W", "error")
_PRELOADED = (
    "channels.layers",
    "hybrid_layer.ipc.transport",
    "hybrid_layer.remote",
    "pytest",
    "tests.support.process_main",
)
_MOST = 256 * 1024
"""Bytes of a request: names, and the environment."""
_SECONDS = 60.0


class Forked(Started):
    """A process that the zygote forked."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._lock = threading.Lock()
        self._code: int | None = None
        if not self._has_news(_SECONDS):
            raise RuntimeError("the zygote forks nothing")
        self.pid = self._read()
        guardian.watch("group", self.pid)

    @property
    def running(self) -> bool:
        if self._code is None and self._has_news(0):
            self.wait(0)
        return self._code is None

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:  # its keeper is about to say so
                pass

    def wait(self, seconds: float) -> int:
        if self._code is None and not self._has_news(seconds):
            raise subprocess.TimeoutExpired("a forked process", seconds)
        with self._lock:  # several threads may wait
            if self._code is None:
                self._code = self._read()
        return self._code

    def __del__(self) -> None:
        os.close(self._status)  # not before, since a thread may still wait

    def _has_news(self, seconds: float) -> bool:
        return bool(select.select([self._status], [], [], seconds)[0])

    def _read(self) -> int:
        line = b""
        while not line.endswith(b"\n"):  # the next one may have been written already
            read = os.read(self._status, 1)
            if not read:
                raise RuntimeError("the keeper of a second process has gone")
            line += read
        return int(line)


class Zygote:
    """The test run's end of one. It ends with the run."""

    def __init__(self, root: Path, path: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        command = [sys.executable, *FLAGS, "-m", "tests.support.zygote", str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": path}
        with theirs:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                cwd=root,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        guardian.watch("group", self._popen.pid)

    def fork(
        self, target: str, loop: str, environment: Mapping[str, str], output: Path, connection: int, inside: int | None
    ) -> Forked:
        """A process that runs `target` with its end of `connection`, and prints into `output`.

        It is forked in the namespaces of the process `inside`, if there is one.
        """
        reading, writing = os.pipe()
        request = {"target": target, "loop": loop, "environment": dict(environment), "cwd": str(Path.cwd())}
        request["inside"] = inside
        with output.open("ab") as file, self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [connection, file.fileno(), writing])
        os.close(writing)
        return Forked(reading)


def main(descriptor: str) -> None:
    """The zygote, and what it forks: there, this goes on to the end of the interpreter."""
    for name in _PRELOADED:
        importlib.import_module(name)
    from tests.support import process_main

    request, connection = _serve(socket.socket(fileno=int(descriptor)))
    process_main.main(str(connection), request["target"], request["loop"])


def _serve(requests: socket.socket) -> tuple[dict[str, Any], int]:
    """Returns in the forked processes alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are waited for by the kernel
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, _MOST, 3)
        if not data:
            os._exit(0)
        request = json.loads(data)
        try:
            importlib.import_module(request["target"].partition(":")[0])
        except Exception:  # noqa: BLE001  # the forked process meets it again, and prints it where the test finds it
            pass
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return request, _keep(request, descriptors)
        for each in descriptors:
            os.close(each)


def _keep(request: dict[str, Any], descriptors: Sequence[int]) -> int:
    """Fork the process, and wait for its end. Returns, in the process, the descriptor of its connection."""
    connection, output, status = descriptors
    if request["inside"] is not None:
        namespaces.enter(request["inside"], *namespaces.NAMES)
    leads, is_leader = os.pipe()
    pid = os.fork()
    if pid:
        os.close(connection)
        os.close(is_leader)
        os.read(leads, 1)  # it has a group of its own
        os.write(status, b"%d\n" % pid)  # as it is called out here
        _, ended = os.waitpid(pid, 0)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(ended))
        os._exit(0)
    os.setsid()
    for each in (leads, is_leader, status):
        os.close(each)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    return connection


if __name__ == "__main__":
    main(sys.argv[1])
