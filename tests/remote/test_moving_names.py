"""Servers behind a host name that moves, while the old server keeps answering."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hybrid_layer.configuration import ServerOptions
from hybrid_layer.remote.redis.hosts.hosts import parse_hosts
from hybrid_layer.remote.redis.hosts.named_host import NamedHost, may_move
from tests.remote.tools import WAYS, Make, listens_here, recovered
from tests.support.moving_names import MovingName
from tests.support.probe import addresses, probe, watch_named_hosts
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import NewServer
from tests.support.waiting import at_rest, until, wait_until

pytestmark = pytest.mark.any_server

TIMEOUT = 3.0
SLACK = 2.0
"""Seconds beyond the promised ones, for a busy machine."""
NOTICES = {"on_disconnect": "layer.lost", "on_reconnect": "layer.back"}
LAYERS = {way: WAYS[way] for way in ("queue", "pubsub", "hybrid-pubsub")}


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MovingName:
    name = MovingName(tmp_path / "name")
    monkeypatch.setattr(socket, "getaddrinfo", name.resolve)
    return name


def options_of(way: str, name: MovingName, prefix: str) -> dict[str, Any]:
    return {"hosts": [name.url], "prefix": f"{prefix}-{way}", "timeout": TIMEOUT}


async def resident(parent: Parent, file: Path, prefix: str) -> None:
    """With each layer: join a group, and answer each message to the channel that it names and to another group."""
    name = MovingName(file)
    name.install()

    async def serve(way: str, layer: Any, channel: str) -> None:
        while (message := await layer.receive(channel))["type"] != "over":
            if message["type"].startswith("layer."):
                parent.send((way, message["type"]))
            else:
                await recovered(lambda: layer.send(message["to"], {"type": "answer"}), 20)
                await recovered(lambda: layer.group_send("answers", {"type": "group answer"}), 20)

    layers = {way: build(**options_of(way, name, prefix), **NOTICES) for way, build in LAYERS.items()}
    names = {way: await layer.new_channel() for way, layer in layers.items()}
    for way, layer in layers.items():
        await layer.group_add("questions", names[way])
    serving = [
        asyncio.create_task(serve(way, layer, channel))
        for way, layer in layers.items()
        for channel in ("normal", names[way])
    ]
    for way, layer in layers.items():
        await at_rest(layer, "normal", names[way])
        await listens_here(layer)
    parent.ready(names)
    await asyncio.gather(*serving)
    for layer in layers.values():
        await layer.close()


async def ask_until_all_is_heard(layer: Any, theirs: str) -> None:
    """Ask over each kind of channel until an answer of each kind is there."""
    own = await recovered(layer.new_channel)
    await recovered(lambda: layer.group_add("answers", own))
    question = {"type": "question", "to": own}
    asks: list[Callable[[], Any]] = [
        lambda: layer.send("normal", question),
        lambda: layer.send(theirs, question),
        lambda: layer.group_send("questions", question),
    ]
    for ask in asks:
        missing = {"answer", "group answer"}
        while missing:
            await recovered(ask)
            try:
                async with asyncio.timeout(0.2):
                    while missing:
                        missing.discard((await layer.receive(own))["type"])
            except TimeoutError:
                pass
        await until(time.monotonic() + 0.1)  # answers to questions that were asked again
        while True:
            try:
                await asyncio.wait_for(layer.receive(own), 0.1)
            except TimeoutError:
                break


@pytest.mark.parametrize("old", ["replica", "primary"])
async def test_old_and_new_processes_meet_at_the_new_server(
    old: str, name: MovingName, new_server: NewServer, spawn: Spawn, prefix: str, make: Make
) -> None:
    first = new_server()
    second = new_server(
        repl_diskless_sync_delay=0, **({"replicaof": [first.host, first.port]} if old == "replica" else {})
    )
    name.leads_to(first)
    process = spawn(resident, name.file, prefix)
    theirs = process.ready()
    if old == "replica":
        second.command("REPLICAOF", "NO", "ONE")
        first.command("REPLICAOF", second.host, second.port)
    name.leads_to(second)
    began = time.monotonic()
    layers = {way: make(build, **options_of(way, name, prefix)) for way, build in LAYERS.items()}
    await asyncio.gather(*(ask_until_all_is_heard(layer, theirs[way]) for way, layer in layers.items()))
    assert time.monotonic() - began < TIMEOUT + SLACK
    told: dict[str, list[str]] = {way: [] for way in LAYERS}
    while process.has_news():
        way, notice = process.receive()
        told[way].append(notice)
    assert told == {way: ["layer.lost", "layer.back"] for way in LAYERS}
    for way, layer in layers.items():
        await layer.send("normal", {"type": "over"})
        await layer.send(theirs[way], {"type": "over"})
    await asyncio.to_thread(process.result)
    clients = first.command("CLIENT", "LIST")
    assert not [each for each in clients if "blpop" in str(each) or "evalsha" in str(each)]


async def test_who_only_sends_follows(name: MovingName, new_server: NewServer, make_layer: Make) -> None:
    first, second = new_server(), new_server()
    name.leads_to(first)
    layer, reader = make_layer(hosts=[name.url], timeout=1), make_layer(hosts=[second.url])
    await layer.send("jobs", {"n": "old"})
    name.leads_to(second)
    waiting = asyncio.create_task(reader.receive("jobs"))

    async def is_there() -> bool:
        await recovered(lambda: layer.send("jobs", {"n": "new"}))
        return waiting.done()

    await wait_until(is_there, "what is sent comes to the second server", 1 + SLACK)
    assert await waiting == {"n": "new"}


async def test_a_server_is_not_left_before_another_answers(
    name: MovingName, new_server: NewServer, make_pubsub: Make
) -> None:
    first, gone = new_server(), new_server()
    gone.stop()
    name.leads_to(first)
    layer = make_pubsub(hosts=[name.url], timeout=1, **NOTICES)

    async def works() -> None:
        channel = await layer.new_channel()
        await layer.send(channel, {"n": 1})
        assert await layer.receive(channel) == {"n": 1}

    waits = await layer.new_channel()
    waiting = asyncio.create_task(layer.receive(waits))
    for _ in range(2):  # the loop has its own connection now
        await works()
    name.file.write_text("")
    await looked(name, 3)
    name.leads_to(gone)
    await looked(name, 3)
    await works()
    assert not waiting.done()
    gone.restart()
    assert (await waiting)["type"] == "layer.lost"
    assert (await layer.receive(waits))["type"] == "layer.back"
    await works()


async def test_a_server_with_several_addresses_is_not_left(
    name: MovingName, new_server: NewServer, make_pubsub: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolvers may name others of them each time. The layer asks which server answers when that changes, once."""
    looks: list[NamedHost] = []
    asked: list[NamedHost] = []
    watch_named_hosts(monkeypatch, looks.append, asked.append)
    server = new_server(bind=["127.0.0.1", "127.0.0.2"])
    other = type("Other", (), {"host": "127.0.0.2", "port": server.port})
    name.leads_to(server)
    layer = make_pubsub(hosts=[name.url], timeout=1, **NOTICES)
    channel = await layer.new_channel()
    waiting = asyncio.create_task(layer.receive(channel))
    await listens_here(layer)
    (host,) = probe(layer).hosts  # other tests' layers may still look for the name
    for place in (server, other, server, other):
        name.leads_to(place)
        at = {(place.host, place.port)}
        await wait_until(lambda at=at: addresses(host) == at, f"it is known that the name leads to {place.host}", 20)
    assert not waiting.done()
    before, asked_before = looks.count(host), asked.count(host)
    await wait_until(lambda: looks.count(host) >= before + 3, "the name is looked up three times more", 20)
    assert asked.count(host) == asked_before
    await layer.send(channel, {"n": 1})
    assert await waiting == {"n": 1}


async def looked(name: MovingName, times: int) -> None:
    """Wait until the name has been looked up `times` times more."""
    last = name.lookups + times
    await wait_until(lambda: name.lookups >= last, "the name is looked up", 20)


@pytest.mark.parametrize(
    ("host", "moves"),
    [
        ("redis://cache.example", True),
        ("rediss://cache.example:1", True),
        ("redis://localhost", False),
        ("redis://127.0.0.1", False),
        ("redis://[::1]", False),
        (("fe80::1%eth0", 6379), False),
        ("unix:///run/redis.sock", False),
    ],
)
def test_what_may_move(host: Any, moves: bool) -> None:
    (found,) = parse_hosts(ServerOptions(hosts=[host]))  # type: ignore[misc]
    assert may_move(found) is moves  # type: ignore[arg-type]


async def test_a_name_cannot_be_looked_up_while_the_interpreter_ends() -> None:
    """Python ends its look-ups before the I/O thread: no reason for a traceback."""
    (server,) = parse_hosts(ServerOptions(hosts=["redis://cache.example"]))  # type: ignore[misc]
    executor = ThreadPoolExecutor()
    asyncio.get_running_loop().set_default_executor(executor)
    executor.shutdown()
    assert not await NamedHost(server, 1).check()  # type: ignore[arg-type]
