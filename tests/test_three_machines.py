"""The example site on three machines of this one: a message crosses, a job does not, and Ctrl-C leaves nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from websockets.sync.client import connect

from hybrid_layer.ipc.objects import ROOT, segment_name
from tests.support.child import Child
from tests.support.closing import Closing
from tests.support.demo import EXAMPLE
from tests.support.guardian import guardian
from tests.support.servers import HOST, free_port
from tests.support.waiting import block_until
from tests.test_demo import Tab

SECONDS = 60.0
PROGRAM = EXAMPLE / "three_machines.py"


class ThreeMachines(Closing):
    """The script, running. As a context manager it is killed at the end of the block if it still lives."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="hybrid-layer-machines-"))
        guardian.watch("directory", self._directory)
        self._output = self._directory / "output"
        self.prefix = f"demo-{secrets.token_hex(6)}"
        self.ports = [free_port() for _ in range(3)]
        self.redis_port = free_port()
        # Where this machine has no redis-server, there is one in the environment's own folder.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
        self.child = Child(
            [sys.executable, PROGRAM, "--redis-port", str(self.redis_port), "--ports", *map(str, self.ports)],
            output=self._output,
            environment={**os.environ, "PATH": path, "HYBRID_LAYER_PREFIX": self.prefix},
        )
        self.family: list[psutil.Process] = []

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def start(self) -> None:
        """Wait until all machines answer."""

        def is_there() -> bool:
            assert self.child.running, self.output
            return "Ctrl-C ends them all\n\n" in self.output.partition("All three machines answer")[2]

        block_until(is_there, "all machines answer", SECONDS)
        script = psutil.Process(self.child.pid)
        self.family = [script, *script.children(recursive=True)]

    def living(self) -> list[psutil.Process]:
        return [process for process in self.family if _lives(process)]

    def close(self) -> None:
        if self.child.running:
            self.child.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(SECONDS)
            self.child.signal(signal.SIGKILL)
            self.child.wait(SECONDS)
        self.child.end_group()
        for process in self.living():
            process.kill()
        shutil.rmtree(self._directory, ignore_errors=True)
        guardian.forget("directory", self._directory)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def machines(needs_machines: None) -> Iterator[ThreeMachines]:
    with ThreeMachines() as machines:
        machines.start()
        yield machines


@contextlib.contextmanager
def tab(port: int, name: str) -> Iterator[Tab]:
    with connect(f"ws://{HOST}:{port}/ws/lobby/?name={name}", origin=f"http://{HOST}:{port}") as socket:  # type: ignore[arg-type]
        yield Tab(socket)


def commands_until(monitor: redis.client.Monitor, text: str) -> list[str]:
    """What reached the server up to the command with this text in it."""
    seen: list[str] = []
    while not seen or text not in seen[-1]:
        seen.append(monitor.next_command()["command"])
    return seen


@pytest.mark.thorough
def test_a_message_crosses_and_a_job_does_not(machines: ThreeMachines) -> None:
    with contextlib.ExitStack() as stack:
        names = ("Ada", "Grace", "Joan")
        ada, grace, joan = (stack.enter_context(tab(*each)) for each in zip(machines.ports, names, strict=True))
        client = stack.enter_context(redis.Redis(port=machines.redis_port, socket_timeout=SECONDS))
        monitor = stack.enter_context(client.monitor())
        ada.send(type="say", text="Good morning")
        for hearer in (joan, grace, ada):
            assert hearer.expect("said")["pid"] == ada.pid
        assert commands_until(monitor, "Good morning")
        grace.send(type="job")
        worker = psutil.Process(grace.expect("job", state="running")["worker"])
        mount = Path(f"/proc/{grace.pid}/ns/mnt").readlink()
        assert Path(f"/proc/{worker.pid}/ns/mnt").readlink() == mount
        assert Path(f"/proc/{ada.pid}/ns/mnt").readlink() != mount
        # The job and its reports, which go to one tab's own channel, stay on the machine.
        grace.send(type="say", text="Good night")
        for hearer in (ada, joan):
            while hearer.expect("said")["text"] != "Good night":
                pass
        crossed = commands_until(monitor, "Good night")
        assert not [command for command in crossed if "job.run" in command or "job.report" in command]
    machines.child.signal(signal.SIGINT)
    assert machines.child.wait(SECONDS) == 0
    assert machines.living() == []
    assert "Traceback" not in machines.output
    assert "killed" not in machines.output
    assert not (ROOT / segment_name(machines.prefix, os.geteuid())).exists()
    with pytest.raises(redis.ConnectionError), redis.Redis(port=machines.redis_port, retry=None) as client:
        client.ping()


@pytest.mark.thorough
def test_killed_itself_it_leaves_nothing_running(machines: ThreeMachines) -> None:
    machines.child.signal(signal.SIGKILL)
    machines.child.wait(SECONDS)
    block_until(lambda: machines.living() == [], "all have ended", SECONDS)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_without_rights_it_says_what_it_needs() -> None:
    code = "import os, sys; import three_machines; os.seteuid(65534); sys.exit(three_machines.main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROGRAM.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "This needs Linux, and root: machines are namespaces of its kernel.\n"
