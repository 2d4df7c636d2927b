"""The process that forks workers: it has imported everything, so a replacement costs a fork and not an interpreter."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from asgiref.sync import async_to_sync

import hybrid_layer.ipc.transport  # noqa: F401  # which a layer imports when it is made: here once for all workers
from tests.chaos.arena import Arena
from tests.chaos.workers import Seat, make_layers, work
from tests.support.probe import leave_all

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Zygote:
    """This process's end of one. `attached`: it uses the segment itself, so its children inherit an attachment."""

    def __init__(self, arena: Arena, prefix: str, attached: bool) -> None:
        self._connection, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                die_with_parent()
                self._connection.close()
                _serve(theirs, arena, prefix, attached)
            finally:
                os._exit(1)
        theirs.close()

    def start(self, seat: Seat) -> None:
        """Fork a worker."""
        self._ask("start", seat)

    def kill(self, seat: Seat) -> tuple[float, float, int]:
        """Kill it: when it still lived, when it was dead, and its exit code, which is that of the signal."""
        answer: tuple[float, float, int] = self._ask("kill", seat)
        return answer

    def has_ended(self, seat: Seat) -> int | None:
        """Its exit code, if it has ended by itself."""
        code: int | None = self._ask("has_ended", seat)
        return code

    def close(self) -> None:
        """End it, when its workers have."""
        self._ask("close", None)
        os.waitpid(self.pid, 0)
        self._connection.close()

    def _ask(self, command: str, seat: Seat | None) -> Any:
        self._connection.send((command, seat))
        return self._connection.recv()


def die_with_parent() -> None:
    """The end of a run ends all its processes."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(connection: Connection, arena: Arena, prefix: str, attached: bool) -> None:
    layers = make_layers(prefix) if attached else None
    if layers is not None:
        async_to_sync(layers.usual.statistics)()
        async_to_sync(layers.brief.statistics)()
    pids: dict[int, int] = {}
    while True:
        command, seat = connection.recv()
        answer: Any = None
        if command == "start":
            pid = os.fork()
            if pid == 0:
                die_with_parent()
                work(seat, arena, layers, prefix)
            pids[seat.number] = pid
        elif command == "kill":
            before = time.monotonic()
            os.kill(pids[seat.number], signal.SIGKILL)
            _, status = os.waitpid(pids.pop(seat.number), 0)
            answer = before, time.monotonic(), os.waitstatus_to_exitcode(status)
        elif command == "has_ended":
            pid, status = os.waitpid(pids[seat.number], os.WNOHANG)
            if pid != 0:
                del pids[seat.number]
                answer = os.waitstatus_to_exitcode(status)
        else:
            leave_all()
        connection.send(answer)
        if command == "close":
            os._exit(0)
