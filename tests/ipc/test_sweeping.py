"""What processes leave that end by a signal: gone with one of the user's next processes, unless it is needed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid_layer.ipc import attachments, sweeping
from hybrid_layer.ipc.objects import digest
from tests.ipc.tools import alive, directory_path, doorbells, is_clean, layer_of, receive, segment_path
from tests.support.guardian import guardian, kill_group
from tests.support.loops import run
from tests.support.probe import Sweeper, probe
from tests.support.process_main import Parent
from tests.support.processes import ROOT, Spawn
from tests.support.waiting import block_to_outlive, block_until, receiving


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, prefix: str) -> Callable[[], None]:
    """`sweep()` as the next process of any prefix does it, but for those of other tests."""
    mine: list[str] = []
    sweeper = Sweeper(monkeypatch)

    def sweep() -> None:
        mine[:] = [digest(each) for each in (prefix, f"{prefix}-other")]
        sweeper.sweep()

    sweeper.only(lambda name: name.split(".")[2] in mine)
    sweeper.seconds(60)  # however busy the machine is
    return sweep


async def leave(parent: Parent, prefix: str, what: str) -> None:
    """Use the layer, leave `what` and wait for the end."""
    layer = layer_of(prefix, expiry=60 if what == "message" else 1)
    own = await layer.new_channel()
    await layer.group_add("group", own)
    await layer.send(own, {"n": 1})
    if what in ("message", "expired"):
        await layer.send("jobs", {"n": 1})
    if what == "membership":
        await layer.group_add("group", "jobs")
    (waiting,) = await receiving(layer, "nothing")
    parent.ready()
    await waiting


@pytest.mark.parametrize(
    ("what", "stays"), [("nothing", False), ("message", True), ("membership", True), ("expired", False)]
)
def test_what_a_killed_process_left(
    what: str, stays: bool, prefix: str, spawn: Spawn, sweep: Callable[[], None]
) -> None:
    process = spawn(leave, prefix, what)
    process.ready()
    sweep()
    assert segment_path(prefix).exists(), "it is in use"
    process.kill(signal.SIGTERM)
    assert segment_path(prefix).exists()
    if what == "expired":
        block_to_outlive(1)
    sweep()
    assert is_clean(prefix) is not stays
    if stays:
        layer = layer_of(prefix)

        async def main() -> None:
            if what == "membership":
                await layer.group_send("group", {"n": 1})
            assert await receive(layer, "jobs") == 1
            await layer.flush()

        run(main())


def test_a_directory_without_a_segment_goes_too(prefix: str, sweep: Callable[[], None]) -> None:
    directory_path(prefix).mkdir(mode=0o700)
    (directory_path(prefix) / "0.1.1").touch()
    sweep()
    assert is_clean(prefix)


def test_the_segments_of_the_process_itself_are_left_alone(
    prefix: str, sweep: Callable[[], None], spawn: Spawn
) -> None:
    """It holds record locks on them, which would be gone if it opened and closed them."""
    layer = layer_of(prefix)
    run(layer.new_channel())
    sweep()
    assert segment_path(prefix).exists()
    process = spawn(how_many_live, prefix)
    assert process.result() == 2
    assert probe(layer).core.lost() is None


def how_many_live(parent: Parent, prefix: str) -> int:
    layer = layer_of(prefix)
    asyncio.run(layer.new_channel())
    return alive(layer)


def test_the_first_attachment_of_a_process_sweeps(
    prefix: str, spawn: Spawn, sweep: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep()  # from now on those of this test
    process = spawn(leave, prefix, "nothing")
    process.ready()
    process.kill()
    monkeypatch.setattr(attachments, "has_swept", False)
    layer = layer_of(f"{prefix}-other")
    run(layer.new_channel())
    assert is_clean(prefix)
    assert attachments.has_swept


@pytest.mark.parametrize(("seconds", "number"), [(60, sweeping.MOST), (0, 2)], ids=["much time", "no time"])
def test_so_many_are_looked_at(seconds: float, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    sweeper = Sweeper(monkeypatch)
    sweeper.seconds(seconds)
    sweeper.pretend([f"hybrid_layer.{os.geteuid()}.{n}.1" for n in range(1000)], looked.append)
    sweeper.sweep()
    assert len(set(looked)) == len(looked) == number


def come_and_go(parent: Parent, prefix: str, seconds: float) -> int:
    """Attach, pass a message to oneself, leave, as often as may be; the number of messages."""

    async def once(n: int) -> None:
        layer = layer_of(prefix)
        await layer.send("jobs", {"n": n})
        async with asyncio.timeout(10):
            await layer.receive("jobs")  # one's own, or that of another
        await layer.close()

    number, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        asyncio.run(once(number))
        number += 1
    return number


async def sweep_again_and_again(parent: Parent, prefix: str, seconds: float) -> int:
    number, until = 0, time.monotonic() + seconds
    with pytest.MonkeyPatch.context() as monkeypatch:
        sweeper = Sweeper(monkeypatch)
        sweeper.only(lambda name: name.split(".")[2] == digest(prefix))
        while time.monotonic() < until:
            sweeper.sweep()
            number += 1
    return number


def test_sweepers_beside_processes_that_come_and_go(prefix: str, spawn: Spawn) -> None:
    """None of them loses what it stored, whichever removes the segment in between."""
    sweepers = [spawn(sweep_again_and_again, prefix, 2) for _ in range(2)]
    users = [spawn(come_and_go, prefix, 2) for _ in range(2)]
    assert all(user.result() > 10 for user in users)
    assert all(sweeper.result() > 10 for sweeper in sweepers)


# Servers


@pytest.fixture
def serve(prefix: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`serve(command)` starts a server of a small project whose layer has the prefix, and waits until it uses it."""
    (tmp_path / "site_asgi.py").write_text(SITE)
    started: list[subprocess.Popen[bytes]] = []

    def serve(*command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "SITE_PREFIX": prefix},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        guardian.watch("group", process.pid)
        return process

    yield serve
    for process in started:
        kill_group(process.pid)
        process.communicate()
        guardian.forget("group", process.pid)


SITE = """
import os, sys
from hybrid_layer.ipc import IPCChannelLayer, attachments
attachments.has_swept = True
from django.conf import settings
if not settings.configured: settings.configure(
    SECRET_KEY="site", INSTALLED_APPS=["channels"], CHANNEL_LAYERS={"default": {
        "BACKEND": "hybrid_layer.ipc.IPCChannelLayer",
        "CONFIG": {"prefix": os.environ["SITE_PREFIX"], "message_memory": 1 << 20, "group_memory": 1 << 18}}},
    ASGI_APPLICATION="site_asgi.application", LOGGING_CONFIG=None,
)
import django
if __name__ != "__main__": django.setup()
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, ChannelNameRouter

async def page(scope, receive, send):
    layer = get_channel_layer()
    name = await layer.new_channel()
    await layer.send(name, {"type": "hello"})
    await layer.receive(name)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})

async def job(scope, receive, send):
    while True:
        await receive()

application = ProtocolTypeRouter({"http": page, "channel": ChannelNameRouter({"jobs": job})})

if __name__ == "__main__":
    from django.core.management import execute_from_command_line
    execute_from_command_line(["manage.py", "runworker", "jobs"])
"""


def visit(port: int, process: subprocess.Popen[bytes]) -> None:
    """Ask for the page until it is there."""

    def is_there() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n")
                assert b"200" in sock.recv(4096)
                return True
        except ConnectionError:
            assert process.poll() is None
            return False

    block_until(is_there, "the server answers", 20)


def stopped(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)


@pytest.mark.parametrize("server", ["uvicorn", "runworker"])
def test_stopped_servers_leave_nothing_for_long(
    server: str, prefix: str, serve: Callable[..., subprocess.Popen[bytes]], sweep: Callable[[], None]
) -> None:
    if server == "uvicorn":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = serve("-m", "uvicorn", "site_asgi:application", "--port", str(port), "--lifespan", "off")
        visit(port, process)
    else:
        process = serve("site_asgi.py")
        block_until(lambda: doorbells(prefix), "the worker waits", 20)
    stopped(process)
    assert segment_path(prefix).exists(), "then this test is not needed any more"
    sweep()
    assert is_clean(prefix)


async def test_where_the_open_files_cannot_be_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str
) -> None:
    """Without /proc nothing is swept, and the layer works."""
    Sweeper(monkeypatch).without_open_files(tmp_path / "missing")
    monkeypatch.setattr(attachments, "has_swept", False)
    layer = layer_of(prefix)
    await layer.send("jobs", {"n": 1})
    assert await receive(layer, "jobs") == 1
