"""Runs the chat on three machines of this one box, and a server between them; Ctrl-C ends them all.

A machine is a mount namespace of the kernel with a /dev/shm of its own: shared memory leads from one process of it to
another, and to no other machine. Each runs `run.py`, so it has two web processes and one worker. The server is a Redis
or Valkey of its own on a port of its own. `redis-cli MONITOR` there shows what crosses between the machines, and by its
silence what does not.

Linux only, and as root: no other user may mount. `--help` prints the options.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from programs import HERE, HOST, Programs, Stop, answers, end, how, say, start

SERVERS = ("redis-server", "valkey-server")
START_SECONDS = 60
END_SECONDS = 30

# The mount ends with the last process of the namespace.
MACHINE = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$0" "$@"']


class Site(Programs):
    def __init__(self, ports: Sequence[int], redis_port: int, locality: str) -> None:
        super().__init__()
        self.urls = [f"http://{HOST}:{port}" for port in ports]
        self.ports = ports
        self.redis_port = redis_port
        self.locality = locality
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        server = find_server()
        options = f"--bind {HOST} --port {self.redis_port} --loglevel warning --appendonly no --save".split()
        self.children["the server"] = start([server, *options, ""], {})
        hosts = f"redis://{HOST}:{self.redis_port}"
        for number, port in enumerate(self.ports, 1):
            command = [*MACHINE, sys.executable, str(HERE / "run.py")]
            environment = {"HYBRID_LAYER_HOSTS": hosts, "HYBRID_LAYER_LOCALITY": self.locality, "PORT": str(port)}
            self.children[f"machine {number}"] = start(command, environment)
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
        say("\n".join([*lines, ""]))

    def look_after(self) -> None:
        for name, child in self.children.items():
            if (code := child.poll()) is not None:
                raise Stop(f"{name} ended ({how(code)}); see above for its reason.".capitalize())

    def end(self) -> None:
        """The machines first, all at once, since they need the server to end in order."""
        server = self.children.pop("the server", None)
        for child in self.children.values():
            child.send_signal(signal.SIGINT)
        for child in [*self.children.values(), *([] if server is None else [server])]:
            end(child, END_SECONDS)


def find_server() -> str:
    """The program of the server."""
    for name in SERVERS:
        if found := shutil.which(name):
            return found
    raise Stop(
        f"There is no {' and no '.join(SERVERS)} on this machine. Install one of them (redis-tools has redis-cli)."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", type=int, nargs=3, default=(8001, 8002, 8003), help="of the three machines")
    parser.add_argument("--redis-port", type=int, default=6390, help="of the server")
    parser.add_argument("--locality", choices=("name", "machine"), default="machine", help="of new channels' names")
    options = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        print("This needs Linux, and root: machines are namespaces of its kernel.", file=sys.stderr)
        return 2
    return Site(options.ports, options.redis_port, options.locality).run()


if __name__ == "__main__":
    sys.exit(main())
