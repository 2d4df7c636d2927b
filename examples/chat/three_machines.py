"""Runs the chat on three machines of this one box, and a server between them; Ctrl-C ends them all.

A machine is a mount namespace of the kernel with a /dev/shm of its own: shared memory leads from one process of it to
another, and to no other machine. Each runs `run.py`, so it has two web processes and one worker. The server is a Redis
or Valkey of its own on a port of its own. `redis-cli MONITOR` there shows what crosses between the machines, and by its
silence what does not.

Linux only, and as root: no other user may mount. `--help` prints the options.
"""

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"  # no login, hence nobody but this box
SERVERS = ("redis-server", "valkey-server")
START_SECONDS = 60
END_SECONDS = 30

# The mount ends with the last process of the namespace.
MACHINE = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$0" "$@"']

LIBC = ctypes.CDLL(None)  # loaded here, because nothing should be between fork and exec
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Stop(Exception):
    """Ends everything; the text, if any, is what went wrong."""


class Site:
    def __init__(self, ports: Sequence[int], redis_port: int) -> None:
        self.urls = [f"http://{HOST}:{port}" for port in ports]
        self.ports = ports
        self.redis_port = redis_port
        self.asked_to_stop = False
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        try:
            self.start()
            while True:
                self.pause(0.5)
        except Stop as stop:
            if stop.args:
                print(stop.args[0], file=sys.stderr, flush=True)
                return 1
            return 0
        finally:
            self.end()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Only noted here, and acted on between two steps, so that nothing is left half-started."""
        self.asked_to_stop = True

    def start(self) -> None:
        server = find_server()
        options = f"--bind {HOST} --port {self.redis_port} --loglevel warning --appendonly no --save".split()
        self.children["the server"] = start([server, *options, ""], {})
        hosts = f"redis://{HOST}:{self.redis_port}"
        for number, port in enumerate(self.ports, 1):
            command = [*MACHINE, sys.executable, str(HERE / "run.py")]
            self.children[f"machine {number}"] = start(command, {"PORT": str(port), "HYBRID_LAYER_HOSTS": hosts})
        deadline = time.monotonic() + START_SECONDS
        while not all(map(answers, self.urls)):
            self.pause(0.2)
            if time.monotonic() > deadline:
                raise Stop(f"The machines did not answer within {START_SECONDS} seconds.")
        self.explain()

    def explain(self) -> None:
        lines = ["", "  All three machines answer. Open a tab at each:", ""]
        for url, (name, child) in zip(self.urls, list(self.children.items())[1:], strict=True):
            lines.append(f"  {name}: {url}  (a shell on it: nsenter --target {child.pid} --mount)")
        lines += [
            "",
            f"  What crosses between them: redis-cli -p {self.redis_port} MONITOR",
            "",
            "  Ctrl-C ends them all",
        ]
        print("\n".join(lines), end="\n\n", flush=True)

    def pause(self, seconds: float) -> None:
        """Sleep, then look after the children."""
        if not self.asked_to_stop:
            time.sleep(seconds)
        if self.asked_to_stop:
            raise Stop
        for name, child in self.children.items():
            if (code := child.poll()) is not None:
                raise Stop(f"{name} ended (exit code {code}); see above for its reason.".capitalize())

    def end(self) -> None:
        """The machines first, all at once, since they need the server to end in order."""
        server = self.children.pop("the server", None)
        end(self.children)
        if server is not None:
            end({"the server": server})


def find_server() -> str:
    """The program of the server."""
    for name in SERVERS:
        if found := shutil.which(name):
            return found
    raise Stop(
        f"There is no {' and no '.join(SERVERS)} on this machine. Install one of them (redis-tools has redis-cli)."
    )


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """In a process group of its own: Ctrl-C reaches this process only, which then ends the others in order."""
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=end_with_parent,
    )


def end_with_parent() -> None:
    """In the child: should this process be killed before it can end its children, the kernel sends them SIGTERM."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(children: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """Ask them, as Ctrl-C would, then use force on what is left."""
    for child in children.values():
        child.send_signal(signal.SIGINT)
    deadline = time.monotonic() + END_SECONDS
    for name, child in children.items():
        try:
            child.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"  {name} did not end in {END_SECONDS} seconds; killed", file=sys.stderr, flush=True)
            child.kill()
            child.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", type=int, nargs=3, default=(8001, 8002, 8003), help="of the three machines")
    parser.add_argument("--redis-port", type=int, default=6390, help="of the server")
    options = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        print("This needs Linux, and root: machines are namespaces of its kernel.", file=sys.stderr)
        return 2
    return Site(options.ports, options.redis_port).run()


if __name__ == "__main__":
    sys.exit(main())
