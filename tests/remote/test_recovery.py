"""One of two servers fails, in every way a server can. What waits lives on, calls say which server and why, the other
server's names do not notice, and within a second of the return everything works, memberships included.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.wire.keys import Keys
from tests.remote.tools import Make
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import NewServer, Server
from tests.support.waiting import at_rest, cancelled, until, wait_until

TIMEOUT = 1.0
SLACK = 4.0
"""Seconds for what is immediate on an idle machine."""


@dataclass(frozen=True)
class Outage:
    begin: Callable[[Server, Server], Any]
    end: Callable[[Server, Server], Any]
    cause: str
    """What errors say."""
    receivers_notice: bool = True


def fill(server: Server, _: Server) -> None:
    server.command("CONFIG", "SET", "maxmemory", "100kb")


def demote(server: Server, other: Server) -> None:
    server.command("CONFIG", "SET", "replica-serve-stale-data", "yes")
    server.command("REPLICAOF", other.host, 1)  # a port without a server, so it keeps its data


OUTAGES = {
    "killed, back empty": Outage(lambda server, _: server.kill(), lambda server, _: server.restart(), "onnect"),
    "stopped": Outage(lambda server, _: server.pause(), lambda server, _: server.resume(), f"{TIMEOUT} s", False),
    "full": Outage(fill, lambda server, _: server.command("CONFIG", "SET", "maxmemory", 0), "maxmemory", False),
    "read-only": Outage(demote, lambda server, _: server.command("REPLICAOF", "NO", "ONE"), "read only"),
}


def name_on(shard: int, what: str) -> str:
    """The name of a normal channel or group that lies on this of two shards."""
    return next(name for n in range(100) if shard_for(name := f"{what}.{n}", 2) == shard)


async def repeated(action: Callable[[], Awaitable[Any]], done: Callable[[], bool], seconds: float) -> float:
    """Call until `done`, errors of servers aside. The seconds that it took."""

    async def is_done() -> bool:
        if not done():
            with contextlib.suppress(RemoteUnavailable):
                await action()
        return done()

    return await wait_until(is_done, "what is sent has arrived", seconds)


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
async def test_outage(make_layer: Make, new_server: NewServer, outage: Outage) -> None:
    servers = [new_server(), new_server()]
    hosts = [server.url for server in servers]
    layer, other = (make_layer(hosts=hosts, timeout=TIMEOUT) for _ in range(2))
    own = await layer.new_channel()
    hurt = shard_for(own, 2)
    server, healthy = servers[hurt], servers[1 - hurt]
    normal, elsewhere = name_on(hurt, "here"), name_on(1 - hurt, "there")
    mine, added = name_on(hurt, "mine"), name_on(hurt, "added.by.another")
    await layer.group_add(mine, own)
    await other.group_add(added, own)
    got: dict[str, list[Any]] = {own: [], normal: [], elsewhere: []}

    async def read(channel: str) -> None:
        while True:
            got[channel].append((await layer.receive(channel))["id"])

    def has_come(channel: str, id_: int) -> bool:
        return id_ in got[channel]

    readers = [asyncio.create_task(read(channel)) for channel in got]
    await at_rest(layer, *got)
    await wait_until(lambda: probe(layer).would_restore(added, own), "the process knows what the other one did")
    outage.begin(server, healthy)
    began = time.monotonic()
    calls = await asyncio.gather(
        other.send(normal, {"id": "doubtful"}),
        other.send(own, {"id": "doubtful"}),
        other.group_add(name_on(hurt, "later"), own),
        other.group_send(mine, {"id": "doubtful"}),
        return_exceptions=True,
    )
    assert time.monotonic() - began < TIMEOUT + SLACK
    for error in calls:
        assert isinstance(error, RemoteUnavailable), repr(error)
        assert f"{server.host}:{server.port}" in str(error)
        assert outage.cause in str(error).lower() or outage.cause in str(error), str(error)
    await other.send(elsewhere, {"id": 1})
    await wait_until(lambda: got[elsewhere] == [1], "the healthy server delivers", SLACK)

    outage.end(server, healthy)
    limit = 1 + SLACK
    for channel, id_ in ((normal, 2), (own, 3)):
        await repeated(partial(other.send, channel, {"id": id_}), partial(has_come, channel, id_), limit)
    for group, id_ in ((mine, 4), (added, 5)):
        await repeated(partial(other.group_send, group, {"id": id_}), partial(has_come, own, id_), limit)
    assert all(not reader.done() for reader in readers)
    for ids in got.values():
        assert ids.count("doubtful") <= 2, "a send and a group_send"
    await cancelled(*readers)


async def join(parent: Parent, options: dict[str, Any], name: str) -> None:
    """Add another process's channel to a group."""
    from hybrid_layer.remote import RedisChannelLayer

    layer = RedisChannelLayer(**options)
    await layer.group_add("g", name)
    await layer.close()


async def test_what_a_process_that_has_ended_added_comes_back(
    make_layer: Make, new_server: NewServer, prefix: str, spawn: Spawn
) -> None:
    """The member keeps its memberships, whichever process made them."""
    server = new_server()
    options = {"hosts": [server.url], "prefix": prefix}
    layer = make_layer(**options)
    own = await layer.new_channel()
    waiting = asyncio.create_task(layer.receive(own))
    await asyncio.to_thread(spawn(join, options, own).result)
    await wait_until(lambda: not server.command("EXISTS", f"{prefix}|1|notes|{own}"), "the note is read")
    await until(time.monotonic() + 0.1)  # and noted: now it may be lost
    server.kill()
    server.restart()
    await repeated(lambda: layer.group_send("g", {"id": 1}), waiting.done, 1 + SLACK)
    assert await waiting == {"id": 1}


async def test_a_restored_membership_ends_when_it_would_have(
    make_layer: Make, new_server: NewServer, prefix: str
) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url], group_expiry=1.5)
    own = await layer.new_channel()
    await layer.group_add("g", own)
    added = time.monotonic()
    server.kill()
    server.restart()
    key = f"{prefix}|1|group|g"
    await repeated(lambda: layer.send(own, {"id": 0}), lambda: bool(server.command("ZCARD", key)), 1 + SLACK)
    deadline = float(server.command("ZSCORE", key, own)) / 1000 - time.time()
    assert abs(time.monotonic() + deadline - (added + 1.5)) < 0.3


@pytest.mark.parametrize("begins_anew", [False, True])
async def test_a_membership_that_ends_while_it_is_restored_stays_ended(
    make_layer: Make, server: Server, monkeypatch: pytest.MonkeyPatch, begins_anew: bool
) -> None:
    """Consumers leave their groups above all when a server has failed. One that joins again just then is a member."""
    layer = make_layer(hosts=[server.url])
    restored = []
    own = await layer.new_channel()
    await layer.group_add("g", own)

    async def after_a_discard(run_command: Callable[[], Any], command: Any) -> Any:
        if begins_anew and restored and command[1] == scripts.GROUP_DISCARD.sha:
            monkeypatch.undo()
            await layer.group_add("g", own)
        if "restore" not in command:
            return await run_command()
        await layer.group_discard("g", own)
        restored.append(await run_command())
        return restored[-1]

    probe(layer).around_commands(monkeypatch, after_a_discard)
    probe(layer).meet_lost_connection()
    key = Keys(layer.prefix).group("g")
    await wait_until(lambda: bool(restored), "the membership is restored")
    if not begins_anew:
        await wait_until(lambda: not server.command("ZCARD", key), "the membership has ended again")
        await until(time.monotonic() + 0.1)  # and stays so
        assert not server.command("ZCARD", key)
    probe(layer).look_after_keys()
    await until(time.monotonic() + 0.1)  # it is renewed, if there is one
    await wait_until(lambda: server.command("ZCARD", key) == begins_anew, "it is there only if it was begun anew")
