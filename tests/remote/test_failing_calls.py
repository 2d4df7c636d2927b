"""Calls that fail, many of each kind: none leaves a descriptor open, and each error says the cause and the remedy."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import HybridLayerError, RemoteUnavailable
from tests.remote.tools import Make
from tests.support.loops import Run
from tests.support.marks import but_thorough
from tests.support.servers import HOST, NewServer, free_port

pytestmark = pytest.mark.any_server

NUMBER = 60


def open_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def fail(layer: Any) -> None:
    for call in (layer.send("x", {"n": 1}), layer.group_add("g", "x"), layer.group_send("g", {"n": 1})):
        with pytest.raises(HybridLayerError):
            await call


def failing(kind: str, new_server: NewServer) -> tuple[dict[str, Any], float, int]:
    """A host at which calls fail, the layer's timeout, and a number of calls that does not take long."""
    host: dict[str, Any] = {"host": HOST, "port": free_port()}
    if kind == "refused":
        return host, 2, NUMBER
    if kind == "no name":
        return {"host": "no-such-name.invalid"}, 2, NUMBER
    server = new_server(**({"requirepass": "x"} if kind == "wrong password" else {}))
    host["port"] = server.port
    if kind == "wrong password":
        return {**host, "password": "wrong"}, 2, NUMBER
    if kind == "no TLS":
        return {**host, "ssl": True}, 0.05, 10
    server.pause()
    return host, 0.02, 20


@pytest.mark.parametrize("how", but_thorough(["in one loop", "in loops of their own"], "in loops of their own"))
@pytest.mark.parametrize("kind", ["refused", "wrong password", "no name", "no TLS", "stopped"])
def test_none_leaves_a_descriptor(new_server: NewServer, make_layer: Make, run: Run, kind: str, how: str) -> None:
    host, timeout, number = failing(kind, new_server)
    layer = make_layer(hosts=[host], timeout=timeout)

    async def main() -> None:
        for _ in range(number):
            await fail(layer)
        await layer.close()

    def fail_often() -> None:
        if how == "in one loop":
            run(main())
        else:
            for _ in range(number // 4):
                async_to_sync(fail)(layer)

    fail_often()
    before = open_descriptors()
    fail_often()
    assert open_descriptors() <= before + 2  # of a look-up or a try to connect that is just under way


async def test_a_server_that_takes_no_more_clients(new_server: NewServer, make_layer: Make) -> None:
    server = new_server()
    server.command("CONFIG", "SET", "maxclients", "1")
    with redis.Redis(host=server.host, port=server.port, retry=None) as client:
        try:
            client.ping()
        except redis.ConnectionError:  # what is there already is enough
            pass
        layer = make_layer(hosts=[server.url], timeout=1)
        with pytest.raises(RemoteUnavailable, match="maxclients"):
            await layer.send("x", {})
        await layer.close()


PROGRAM = """
import asyncio, atexit
from django.conf import settings
settings.configure()
from hybrid_layer.remote import RedisChannelLayer
from tests.support.loops import Run
from tests.remote.tools import Make
layer = RedisChannelLayer(hosts=["redis://localhost:1"], timeout=1)

@atexit.register
def late():
    try:
        asyncio.run(layer.send("x", {}))
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_call_while_the_interpreter_ends() -> None:
    """The error says so, and does not mention TLS."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("RemoteUnavailable"), done
    assert "the interpreter is ending" in done.stdout
    assert "TLS" not in done.stdout
