"""ASGI servers get SIGTERM while websockets are open and wait for messages from a server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.child import Child
from tests.support.processes import ROOT
from tests.support.servers import HOST, free_port
from tests.support.waiting import block_until

SECONDS = 30.0
SITE = "tests.remote.asgi_site:application"
# uvicorn raises the signal again when it has shut down; its older versions return.
SERVERS = {
    "daphne": (["-b", HOST, "-p"], {0}),
    "uvicorn": (["--host", HOST, "--lifespan", "off", "--port"], {0, -signal.SIGTERM}),
}
CRASHES = ("Traceback", "Error", "Exception ignored", "never awaited", "was destroyed", "Segmentation fault", "Fatal")


def open_socket(port: int, server: Child) -> ClientConnection:
    opened: list[ClientConnection] = []

    def is_open() -> bool:
        try:
            opened.append(connect(f"ws://{HOST}:{port}/", open_timeout=SECONDS))
        except ConnectionRefusedError:
            assert server.running
        return bool(opened)

    block_until(is_open, "the server answers", SECONDS)
    return opened[0]


@pytest.mark.parametrize("name", SERVERS)
def test_sigterm_with_open_websockets(name: str, hosts: list[str], prefix: str, tmp_path: Path) -> None:
    arguments, codes = SERVERS[name]
    port, output = free_port(), tmp_path / "output"
    options = {"prefix": prefix, "hosts": hosts}
    server = Child(
        [sys.executable, "-m", name, *arguments, str(port), SITE],
        output=output,
        environment={**os.environ, "PYTHONPATH": str(ROOT), "LAYER_OPTIONS": json.dumps(options)},
    )
    try:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(open_socket(port, server)) for _ in range(3)]
            # Each is in the group once it has got its own message, and then waits for the next one.
            for socket in sockets:
                socket.send(str(id(socket)))
                while socket.recv(timeout=SECONDS) != str(id(socket)):
                    pass
            server.signal(signal.SIGTERM)
            code = server.wait(SECONDS)
    finally:
        server.signal(signal.SIGKILL)
        server.wait(SECONDS)
        left = server.end_group()
    printed = output.read_text(errors="replace")
    assert code in codes, printed
    assert not [crash for crash in CRASHES if crash in printed], printed
    assert left == []
