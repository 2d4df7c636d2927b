"""Passwords, users, databases and Unix sockets, against servers that insist on them."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
import redis

from tests.remote.tools import Make, exchange, recovered, refused, told
from tests.support.loops import Run
from tests.support.servers import NewServer, Server
from tests.support.waiting import receiving

PASSWORD = "a#b/c@d:e? %\u00fc'\"+&"
LEAST = "on >{password} ~{prefix}|* +@read +@write +@connection +@scripting +@blocking +time -@dangerous"
"""The rights that docs/hosts.rst names for a user of the layer, and without those that it says are not needed."""


@pytest.fixture
def locked(new_server: NewServer) -> Server:
    return new_server(requirepass=PASSWORD)


def forms(server: Server) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Entries of `hosts`, each with `connection_kwargs`, that all lead to the third database of `server`."""
    address, path, quoted = f"{server.host}:{server.port}", str(server.config["unixsocket"]), quote(PASSWORD, safe="")
    return {
        "dict": ({"host": server.host, "port": server.port, "password": PASSWORD, "db": 3}, {}),
        "dict with an address": ({"address": f"redis://{address}/3", "password": PASSWORD}, {}),
        "URI": (f"redis://:{quoted}@{address}/3", {}),
        "URI with a user": (f"valkey://default:{quoted}@{address}?db=3", {}),
        "pair": ((server.host, server.port), {"password": PASSWORD, "db": 3}),
        "path": ({"path": path, "password": PASSWORD, "db": 3}, {}),
        "URI of a socket": (f"unix://:{quoted}@{path}?db=3", {}),
        "a host's own win": ({"address": f"redis://{address}", "db": 3}, {"password": PASSWORD, "db": 1}),
    }


async def test_every_form_leads_to_the_same_place(locked: Server, make_layer: Make) -> None:
    layers = [make_layer(hosts=[host], connection_kwargs=kwargs) for host, kwargs in forms(locked).values()]
    for layer in layers:
        await exchange(layer)
    for n, layer in enumerate(layers):
        await layer.send("normal", {"n": n})
    assert [(await layer.receive("normal"))["n"] for layer in layers] == list(range(len(layers)))
    for database, is_used in ((0, False), (1, False), (3, True)):
        with redis.Redis(host=locked.host, port=locked.port, password=PASSWORD, db=database) as client:
            assert bool(client.dbsize()) is is_used


def test_a_wrong_password(locked: Server, make_layer: Make, run: Run) -> None:
    name = f"{locked.host}:{locked.port} is not available: "
    for password, cause in (("wrong", "invalid username-password pair"), (None, "Authentication required")):
        host = {"host": locked.host, "port": locked.port, "password": password}
        run(refused(make_layer(hosts=[host]), f"{name}.*{cause}"))


async def test_a_receiver_outlives_a_password_that_is_wrong_for_a_while(locked: Server, make_layer: Make) -> None:
    layer = make_layer(hosts=[{"host": locked.host, "port": locked.port, "password": PASSWORD}])
    name = await layer.new_channel()
    waiting = await receiving(layer, "normal", name)
    locked.command("CONFIG", "SET", "requirepass", "other")
    locked.config["requirepass"] = "other"
    locked.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await refused(layer, "invalid username-password pair")
    locked.command("CONFIG", "SET", "requirepass", PASSWORD)
    await recovered(lambda: layer.send("normal", {"n": 1}))
    await recovered(lambda: layer.send(name, {"n": 2}))
    async with asyncio.timeout(10):
        assert [(await task)["n"] for task in waiting] == [1, 2]


def test_a_user_who_may_not_load_scripts(new_server: NewServer, make_layer: Make, run: Run) -> None:
    server = new_server()
    server.command("ACL", "SETUSER", "site", "on", ">secret", "~*", "&*", "+@all", "-script")
    layer = make_layer(hosts=[f"redis://site:secret@{server.host}:{server.port}"])
    run(refused(layer, "[Nn]o permissions to run the 'script"))
    stats = server.command("INFO", "commandstats")
    assert stats["cmdstat_evalsha"]["calls"] < 10  # it is not tried again and again


def test_a_user_with_the_least_rights(
    new_server: NewServer, prefix: str, make_layer: Make, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_server()
    server.command("ACL", "SETUSER", "site", *LEAST.format(password="secret", prefix=prefix).split())
    server.command("ACL", "SETUSER", "default", "off")
    layer = make_layer(hosts=[f"redis://site:secret@{server.host}:{server.port}"])

    async def main() -> None:
        await exchange(layer)
        await layer.flush()
        await layer.close()

    run(main())
    assert not told(caplog, server)
    stranger = make_layer(hosts=[f"redis://site:secret@{server.host}:{server.port}"], prefix="stranger")
    run(refused(stranger, "[Nn]o permissions to access"))
