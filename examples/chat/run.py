"""Runs the chat as a production site would: two web processes and one worker; Ctrl-C ends them all.

The web processes are `uvicorn --workers 2`: its parent opens the port once and hands the listening socket to both, so
the kernel gives each new connection to whichever process is first to accept it. On Linux that spreads the connections
of idle processes about 60 : 40, in no order (measured). A listener for each process, with SO_REUSEPORT, spreads them
50 : 50, in no order either; uvicorn has no such option, and two uvicorns side by side would restart nobody. So, whoever
hands out the connections, a second tab lands on the other process about half of the time. That is why the page asks:
a process that it would rather not have sends it away again, a few times at most (ELSEWHERE in chat/consumers.py).

The worker is Channels' own `manage.py runworker jobs`. A site would have systemd or a container runtime in the place of
this file, and whatever terminates TLS in front.

Environment: PORT (8000); HYBRID_LAYER_HOSTS, comma separated, for a remote; HYBRID_LAYER_LOCALITY (name), or machine;
HYBRID_LAYER_PREFIX (chat).
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import NoReturn

import psutil
from programs import HOST, Programs, Stop, answers, end, how, say, start

WEB_PROCESSES = 2
START_SECONDS = 30
QUICK_SECONDS = 3  # a worker that ends by itself sooner than this after its start would only do so again

# Frames beyond 16 KiB are no chat; a socket that is still busy after two seconds does not hold up the end.
UVICORN = (
    f"-m uvicorn chat.asgi:application --workers {WEB_PROCESSES} --host {HOST} --lifespan off --log-level warning"
    " --no-access-log --ws-max-size 16384 --timeout-graceful-shutdown 2"
).split()
WORKER = ["manage.py", "runworker", "jobs"]


class Demo(Programs):
    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.web: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self.worker_since = 0.0
        self.web_pids: set[int] = set()

    def start(self) -> None:
        self.check_port()
        self.web = run_python([*UVICORN, "--port", str(self.port)])
        self.start_worker()
        deadline = time.monotonic() + START_SECONDS
        while not (answers(self.url) and len(self.web_pids) == WEB_PROCESSES):
            self.pause(0.1)
            if time.monotonic() > deadline:
                raise Stop(f"The web processes did not answer within {START_SECONDS} seconds.")
            self.web_pids = self.web_children()
        assert self.worker is not None
        web = " and ".join(str(pid) for pid in sorted(self.web_pids))
        say(f"\n  Chat: {self.url}  (open it in two tabs)\n")
        say(f"  web processes {web}, worker {self.worker.pid}; Ctrl-C ends them all\n")

    def start_worker(self) -> None:
        self.worker = run_python(WORKER)
        self.worker_since = time.monotonic()

    def watch(self) -> NoReturn:
        """Until Ctrl-C. Whatever dies meanwhile is named and replaced, and the others go on: try `kill -9`."""
        while True:
            self.pause(0.5)
            pids = self.web_children()
            for pid in sorted(self.web_pids - pids):
                say(f"  web process {pid} is gone; uvicorn starts another")
            for pid in sorted(pids - self.web_pids):
                say(f"  web process {pid} started")
            self.web_pids = pids

    def look_after(self) -> None:
        assert self.web is not None
        assert self.worker is not None
        if (code := self.web.poll()) is not None:
            raise Stop(f"uvicorn ended ({how(code)}); see above for its reason.")
        if (code := self.worker.poll()) is not None:
            if code != -signal.SIGKILL and time.monotonic() - self.worker_since < QUICK_SECONDS:
                raise Stop(f"The worker ended ({how(code)}) as soon as it was started; see above for its reason.")
            gone = self.worker.pid
            self.start_worker()
            say(f"  worker {gone} ended ({how(code)}); worker {self.worker.pid} takes its place")

    def check_port(self) -> None:
        """Said here, because uvicorn would only say errno 98, and say it after everything else was started."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except OSError as error:
                raise Stop(f"Port {self.port} cannot be used ({error.strerror}). Try another one: PORT=8001") from error

    def web_children(self) -> set[int]:
        """The processes that serve: uvicorn's children but for the one that multiprocessing keeps for itself."""
        pids = set()
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.web.pid if self.web else 0).children():
                with contextlib.suppress(psutil.Error):
                    if any("spawn_main" in part for part in child.cmdline()):
                        pids.add(child.pid)
        return pids

    def end(self) -> None:
        """The web processes first, so that nobody asks for a job any more; then the worker.

        In this order nothing is left in /dev/shm either. uvicorn's processes end by a signal, which leaves them no time
        to put their things away, and whoever leaves the shared segment last does it for them.
        """
        for child in (self.web, self.worker):
            if child is not None:
                end(child)


def run_python(arguments: list[str]) -> subprocess.Popen[bytes]:
    return start([sys.executable, *arguments], {"DJANGO_SETTINGS_MODULE": "chat.settings", "PYTHONUNBUFFERED": "1"})


def main() -> int:
    port = os.environ.get("PORT") or "8000"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        say(f"PORT is {port!r}; it should be a number from 1 to 65535.", sys.stderr)
        return 2
    return Demo(int(port)).run()


if __name__ == "__main__":
    sys.exit(main())
