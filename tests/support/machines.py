"""Machines, several on this one: what their processes share, and what they do not, is as between real ones.

A `Machine` has a /dev/shm, process numbers and a network of its own: namespaces of the kernel. So nothing of the local
half leads from one to another (the files of a segment, its lock file too, are in /dev/shm). A `Network` connects them
to the servers, which run in it, and a machine may be cut off from it. Neither can be reached from elsewhere, and this
machine's own network is not touched.

Each is held by one process. When that ends, in order or killed with the test run, the kernel ends the processes in
there and removes mounts, interfaces and namespaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from functools import cache
from typing import Any

from tests.support import namespaces
from tests.support.closing import Closing
from tests.support.process_main import Parent
from tests.support.processes import Process, spawn
from tests.support.servers import Kind, Place, Server, start_server

_SERVERS = "198.18.0.254"
"""Where the servers listen, in a network that RFC 2544 reserves for tests."""
_TRY = (
    "mount -t tmpfs tmpfs /dev/shm && ip link add one type veth peer name two && nsenter --net=/proc/self/ns/net true"
)


@cache
def why_not() -> str | None:
    """What this machine lacks for all this; None: nothing."""
    lacking = [program for program in ("ip", "nsenter", "unshare") if shutil.which(program) is None]
    if lacking:
        return f"there is no program {' and no '.join(lacking)}"
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", _TRY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None


class _Held(Closing):
    """Namespaces, held by a process."""

    def __init__(self, has_memory: bool) -> None:
        self._holder = spawn(hold, has_memory)
        self.pid = self._holder.pid
        """The process in whose namespaces one is inside."""
        try:
            self._holder.ready()
            self.run("ip", "link", "set", "lo", "up")
        except BaseException:
            self._holder.close()
            raise

    def run(self, *command: str) -> None:
        """Run a program in this network, to its end."""
        done = subprocess.run([*self.under, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"

    @property
    def under(self) -> tuple[str, ...]:
        """The command that runs a program in this network; it sees the test's files and process numbers."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net")

    def close(self) -> None:
        """End the processes in there, and everything else with them."""
        self._holder.close()


class Machine(_Held):
    """One machine, connected to the network. Its processes end with it, at the latest."""

    def __init__(self, network: Network, number: int) -> None:
        super().__init__(has_memory=True)
        self._network = network
        self._port = f"machine{number}"
        self._processes: list[Process] = []

    def spawn(self, target: Any, *args: Any, **kwargs: Any) -> Process:
        """`tests.support.processes.spawn` on this machine."""
        process = spawn(target, *args, inside=self.pid, **kwargs)
        self._processes.append(process)
        return process

    def is_looking_for_neighbours(self) -> bool:
        """Whether packets may wait until the network's address is found again, which is given up after 3 seconds."""
        done = subprocess.run([*self.under, "ip", "neigh"], capture_output=True, text=True, check=True)
        return "INCOMPLETE" in done.stdout

    def cut(self) -> None:
        """From now on, no packet comes through between this machine and the network. Nobody is told."""
        self._network.run("ip", "link", "set", self._port, "down")

    def heal(self) -> None:
        """Connect it again after `cut`."""
        self._network.run("ip", "link", "set", self._port, "up")

    def close(self) -> None:
        for process in self._processes:
            process.close()
        super().close()


class Network(_Held):
    """Connects machines, and servers that run in it."""

    def __init__(self) -> None:
        super().__init__(has_memory=False)
        self._stack = contextlib.ExitStack()
        self._number = 0
        try:
            self.run("ip", "address", "add", f"{_SERVERS}/32", "dev", "lo")
        except BaseException:
            self.close()
            raise

    def machine(self) -> Machine:
        """Add a machine."""
        self._number += 1
        machine = self._stack.enter_context(Machine(self, self._number))
        port, address = f"machine{self._number}", f"198.18.0.{self._number}"
        self.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
        for side, name, own, other in ((self, port, _SERVERS, address), (machine, "eth0", address, _SERVERS)):
            side.run("ip", "address", "add", own, "peer", other, "dev", name)
            side.run("ip", "link", "set", name, "up")
        return machine

    def server(self, kind: Kind | None = None, **config: Any) -> Server:
        """Start a server that all machines reach. From here its `command` works, its port does not."""
        place = Place(_SERVERS, self.under)
        return self._stack.enter_context(start_server(kind, place=place, protected_mode="no", **config))

    def close(self) -> None:
        self._stack.close()
        super().close()


def hold(parent: Parent, has_memory: bool) -> None:
    """Makes namespaces, and keeps them in being until the test ends."""
    kinds = namespaces.MOUNTS | namespaces.NETWORK | (namespaces.PIDS if has_memory else 0)
    namespaces.unshare(kinds)
    if has_memory:
        _start_first()  # before any other: the first process is number 1
    parent.ready()
    with contextlib.suppress(EOFError):
        parent.receive()


def _start_first() -> None:
    """Fork process number 1 of the machine, which makes its mounts. All others end with it, and it with this one."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.close(reading)
            namespaces.end_with_parent(signal.SIGKILL)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans of the machine's processes become its children
            namespaces.mount("proc", "/proc")
            namespaces.mount("tmpfs", "/dev/shm")
            os.write(writing, b".")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    if not os.read(reading, 1):
        raise OSError("the machine's mounts cannot be made")
    os.close(reading)
