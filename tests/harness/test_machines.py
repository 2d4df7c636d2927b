"""The machines that other tests rely on: they share nothing, can be cut off, and leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.machines import Machine, Network
from tests.support.process_main import Parent
from tests.support.servers import Server
from tests.support.waiting import block_until


def look(parent: Parent) -> tuple[int, list[str], list[str]]:
    """Leave a file, and tell the process's number, what is in /dev/shm and which interfaces there are."""
    found = sorted(os.listdir("/dev/shm"))
    Path("/dev/shm", f"left-by-{os.getpid()}").touch()
    interfaces = Path("/proc/net/dev").read_text().splitlines()[2:]
    return os.getpid(), found, sorted(line.partition(":")[0].strip() for line in interfaces)


def wait_for_news(parent: Parent) -> None:
    parent.ready(os.getpid())
    parent.receive()


def test_machines_share_nothing(network: Network) -> None:
    here = set(os.listdir("/dev/shm"))
    first, other = network.machine(), network.machine()
    number, found, interfaces = first.spawn(look).result()
    assert (found, interfaces) == ([], ["eth0", "lo"])
    again, found, _ = first.spawn(look).result()
    assert found == [f"left-by-{number}"]
    assert again > number > 1
    assert other.spawn(look).result()[:2] == (number, [])
    assert not [name for name in set(os.listdir("/dev/shm")) - here if name.startswith("left-by-")]


def reaches(machine: Machine, server: Server) -> bool:
    code = f"import socket; socket.create_connection(({server.host!r}, {server.port}), 0.3)"
    done = subprocess.run([*machine.under, sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def test_one_machine_is_cut_off(network: Network) -> None:
    server = network.server()
    first, other = network.machine(), network.machine()
    for _ in range(2):
        block_until(partial(reaches, first, server), "it is connected")
        first.cut()
        assert not reaches(first, server)
        block_until(partial(reaches, other, server), "the other is connected")
        first.heal()
    block_until(partial(reaches, first, server), "it is connected again")
    assert server.command("PING")


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def test_a_machine_ends_with_all_that_runs_on_it(network: Network) -> None:
    machine = network.machine()
    process = machine.spawn(wait_for_news)
    assert process.ready() != process.pid
    there = [*family(machine.pid), *family(process.pid)]
    assert len(there) == 3
    machine.close()
    assert not process.running
    block_until(lambda: not any(each.is_running() for each in there), "all have ended")


@pytest.mark.usefixtures("needs_machines")
def test_machines_end_with_a_run_that_is_killed() -> None:
    code = (
        "from tests.harness.test_machines import *\n"
        "network = Network()\n"
        "machine = network.machine()\n"
        "process = machine.spawn(wait_for_news)\n"
        "process.ready()\n"
        "print(network.pid, network.server().pid, machine.pid, process.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        there = [process for pid in run.stdout.readline().split() for process in family(int(pid))]
        assert len(there) == 5
        run.kill()
    block_until(lambda: not any(map(lives, there)), "all have ended")


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
