"""Failures of a server show no password: in no text, no log, and no frame of the package on Django's error page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.redis.wire.keys import Keys
from tests.remote.tools import Make
from tests.support.loops import Run
from tests.support.servers import HOST, NewServer, Server, free_port
from tests.support.waiting import cancelled
from tests.unit.test_discretion import SECRET, said

pytestmark = pytest.mark.any_server


async def failing_calls(layer: Any) -> str:
    """What is said of each."""
    waiting = asyncio.create_task(layer.receive("normal"))
    texts = []
    for call in (
        lambda: layer.send("normal", {}),
        lambda: layer.group_add("g", "normal"),
        lambda: layer.group_send("g", {}),
        layer.new_channel,
        layer.flush,
    ):
        try:
            await call()
        except RemoteUnavailable as error:
            texts.append(said(error))
    assert texts
    await cancelled(waiting)
    await layer.close()
    return "\n".join(texts)


def forms(port: int) -> list[Any]:
    return [
        [f"redis://user:{SECRET}@{HOST}:{port}"],
        [{"host": HOST, "port": port, "username": "user", "password": SECRET}],
        [{"cluster": [f"redis://:{SECRET}@{HOST}:{port}"]}],
        [{"sentinels": [f"redis://:{SECRET}@{HOST}:{port}"], "master_name": "m", "password": SECRET}],
        [{"path": "/no/such/socket", "password": SECRET}],
    ]


@pytest.mark.parametrize("form", range(5))
@pytest.mark.parametrize("way", ["nobody", "stranger"])
def test_errors(make_layer: Make, run: Run, caplog: pytest.LogCaptureFixture, form: int, way: str) -> None:
    """No server answers; or one that repeats unknown commands, as a server does whose AUTH was renamed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"AUTH" in await reader.read(1000):
            writer.write(f"-ERR unknown command 'AUTH', with args beginning with: '{SECRET}' \r\n".encode())
        writer.close()

    async def main() -> str:
        port = free_port()
        server = await asyncio.start_server(answer, HOST, port) if way == "stranger" else None
        text = await failing_calls(make_layer(hosts=forms(port)[form], timeout=0.3))
        if server is not None:
            server.close()
        return text

    text = run(main())
    assert SECRET not in text
    assert SECRET not in caplog.text
    assert way == "nobody" or form == 4 or "unknown command" in text


def test_a_wrong_password(new_server: NewServer, make_layer: Make, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    server = new_server(requirepass="other")
    text = run(failing_calls(make_layer(hosts=[f"redis://:{SECRET}@{server.host}:{server.port}"], timeout=1)))
    assert "invalid username-password pair" in text
    assert SECRET not in text
    assert SECRET not in caplog.text


async def test_an_encrypted_message_cannot_be_moved_to_another_channel(
    make_layer: Make, prefix: str, server: Server
) -> None:
    """By a program that can write to the server, and has no key."""
    layer = make_layer(symmetric_encryption_keys=["secret"])
    keys = Keys(prefix)
    await layer.send("user", {"n": "for users"})
    entry = server.command("LPOP", keys.queue("user"))
    server.command("RPUSH", keys.queue("admin"), entry.replace(b"|user|", b"|admin|"))
    await layer.send("admin", {"n": "for the admin"})
    assert (await layer.receive("admin"))["n"] == "for the admin"
    assert (await layer.statistics())["undecodable"] == 1
    await layer.group_add("g", "admin")
    await layer.group_send("g", {"n": "for members"})
    assert (await layer.receive("admin"))["n"] == "for members"
