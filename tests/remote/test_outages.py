"""Servers that are killed, restarted, stopped or full: what calls do meanwhile, and that everything recovers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote import RedisChannelLayer
from hybrid_layer.remote.delivery.shards import shard_for
from tests.remote.tools import Make, recovered, told
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import NewServer, Server
from tests.support.waiting import block, outlive, receiving, until, wait_until


async def test_no_server_at_all(make_layer: Make, new_server: NewServer) -> None:
    server = new_server()
    server.stop()
    layer = make_layer(hosts=[server.url])
    for call in (
        layer.send("normal", {}),
        layer.new_channel(),
        layer.group_add("g", "normal"),
        layer.group_discard("g", "normal"),
        layer.group_send("g", {}),
        layer.flush(),
    ):
        with pytest.raises(RemoteUnavailable, match=f"127.0.0.1:{server.port} is not available"):
            await call
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await layer.receive("normal")


async def test_a_server_that_does_not_answer(make_layer: Make, new_server: NewServer) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url], timeout=0.5)
    await layer.send("normal", {"n": 0})
    name = await layer.new_channel()
    server.pause()
    began = time.monotonic()
    results = await asyncio.gather(
        layer.send("normal", {"n": 1}), layer.group_send("g", {}), layer.flush(), return_exceptions=True
    )
    assert time.monotonic() - began < 2
    for result in results:
        assert isinstance(result, RemoteUnavailable)
        assert f"{server.port}" in str(result)
        assert "0.5 s" in str(result)
    server.resume()
    await recovered(lambda: layer.send(name, {"n": 2}))
    assert await asyncio.wait_for(layer.receive(name), 5) == {"n": 2}
    server.resume()


async def test_nothing_is_sent_twice(make_layer: Make, new_server: NewServer) -> None:
    """A send whose answer does not come in time may have been executed: once at most."""
    server = new_server()
    layer = make_layer(hosts=[server.url], timeout=0.3)
    await layer.send("normal", {"n": 0})
    server.pause()
    results = await asyncio.gather(*(layer.send("normal", {"n": n}) for n in range(1, 6)), return_exceptions=True)
    assert all(isinstance(result, RemoteUnavailable) for result in results)
    server.resume()
    await recovered(lambda: layer.send("normal", {"n": 99}))
    got = []
    while not got or got[-1] != 99:
        got.append((await asyncio.wait_for(layer.receive("normal"), 5))["n"])
    assert len(got) == len(set(got))
    server.resume()


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
async def test_waiting_receivers_and_memberships_outlive_a_restart(make_layer: Make, new_server: NewServer) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url])
    name = await layer.new_channel()
    await layer.group_add("g", name)
    waiting = await receiving(layer, "normal", name)
    server.kill()
    await wait_until(lambda: not probe(layer).is_at_rest(name), "the loss is seen")
    server.restart()
    await recovered(lambda: layer.send("normal", {"n": 1}))
    assert await asyncio.wait_for(waiting[0], 5) == {"n": 1}

    async def is_member() -> bool:
        await recovered(lambda: layer.group_send("g", {"n": 2}))
        return waiting[1].done()

    await wait_until(is_member, "a message of the group comes", 5)
    assert await waiting[1] == {"n": 2}


async def test_idle_connections_that_were_cut_are_replaced_before_a_send(
    make_layer: Make, new_server: NewServer
) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url])
    await layer.send("normal", {"n": 0})
    for _ in range(3):
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await wait_until(lambda: not probe(layer).is_connected, "the end of the connection is seen")
        await layer.send("normal", {"n": 1})


async def test_an_unreachable_shard_is_named_and_the_others_deliver(make_layer: Make, new_server: NewServer) -> None:
    servers = [new_server() for _ in range(2)]
    layer = make_layer(hosts=[server.url for server in servers])
    names = {shard_for(f"member.{n}", 2): f"member.{n}" for n in range(20)}
    group, other = (next(g for n in range(20) if shard_for(g := f"g.{n}", 2) == shard) for shard in (0, 1))
    for name in names.values():
        await layer.group_add(group, name)
    servers[1].stop()
    with pytest.raises(RemoteUnavailable, match=f"{servers[1].port} .*The other members of {group} got the message"):
        await layer.group_send(group, {"n": 1})
    with pytest.raises(RemoteUnavailable, match=str(servers[1].port)):
        await layer.group_send(other, {"n": 2})
    assert await asyncio.wait_for(layer.receive(names[0]), 5) == {"n": 1}


async def test_a_full_server_is_an_error_that_names_it(make_layer: Make, new_server: NewServer) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url])
    await layer.send("normal", {"n": 1})
    server.command("CONFIG", "SET", "maxmemory", "100kb")
    with pytest.raises(RemoteUnavailable, match=rf"{server.port}.*maxmemory"):
        await layer.send("normal", {"n": 2})
    assert await layer.receive("normal") == {"n": 1}
    server.command("CONFIG", "SET", "maxmemory", "0")
    await layer.send("normal", {"n": 3})
    assert await layer.receive("normal") == {"n": 3}


async def test_a_replica_is_tried_until_it_is_a_primary(make_layer: Make, new_server: NewServer) -> None:
    primary, replica = new_server(), new_server()
    replica.command("REPLICAOF", primary.host, primary.port)
    layer = make_layer(hosts=[replica.url], timeout=4)
    sending = asyncio.create_task(layer.send("normal", {"n": 1}))
    await until(time.monotonic() + 0.5)  # several tries are refused
    assert not sending.done()
    replica.command("REPLICAOF", "NO", "ONE")
    await sending
    assert await layer.receive("normal") == {"n": 1}


async def test_eviction_is_warned_of(make_layer: Make, new_server: NewServer, caplog: pytest.LogCaptureFixture) -> None:
    server = new_server(maxmemory_policy="allkeys-lru")
    layer = make_layer(hosts=[server.url])

    with caplog.at_level(logging.WARNING, "hybrid_layer"):
        await layer.send("normal", {"n": 1})
        await layer.receive("normal")
    (text,) = told(caplog, server)
    assert str(server.port) in text
    assert "noeviction" in text


async def be_member(parent: Parent, options: dict[str, Any]) -> None:
    """Join a group, then stay a member."""
    layer = RedisChannelLayer(**options)
    # A stopped process finds itself slow, and asyncio's debug mode says so.
    asyncio.get_running_loop().slow_callback_duration = 60
    name = await layer.new_channel()
    await layer.group_add("g", name)
    parent.send(name)
    while True:
        parent.send((await layer.receive(name))["n"])


async def test_members_of_a_killed_process_cost_nothing_after_expiry(
    make_layer: Make, prefix: str, server: Server, spawn: Spawn
) -> None:
    options = {"hosts": [server.url], "prefix": prefix, "expiry": 1}
    process = spawn(be_member, options)
    name = process.receive()
    layer = make_layer(**options)
    await layer.group_send("g", {"n": 1})
    assert process.receive() == 1
    process.kill()
    await outlive(1.2)
    await layer.group_send("g", {"n": 2})
    await layer.send(name, {"n": 3})
    statistics = await layer.statistics()
    assert statistics["dead"] == 2
    assert server.command("EXISTS", f"{prefix}|1|group|g") == 0


async def test_a_process_that_was_stopped_for_long_is_a_member_again(
    make_layer: Make, prefix: str, server: Server, spawn: Spawn
) -> None:
    options = {"hosts": [server.url], "prefix": prefix, "expiry": 1}
    process = spawn(be_member, options)
    process.receive()
    layer = make_layer(**options)
    await layer.group_send("other", {"n": 0})  # a process that has seen the clock go evenly knows better
    process.pause()
    await outlive(1.2)
    await layer.group_send("g", {"n": 1})
    assert (await layer.statistics())["dead"] == 1
    process.resume()

    async def is_reached() -> bool:
        await layer.group_send("g", {"n": 2})
        return bool((await layer.statistics())["sent"])

    await wait_until(is_reached, "the process is a member again")
    assert process.receive() == 2
    process.kill()


async def test_members_keep_alive_while_their_loop_is_busy(make_layer: Make) -> None:
    layer = make_layer(expiry=1)
    name = await layer.new_channel()
    await layer.group_add("g", name)
    block(time.monotonic() + 1.8)  # the loop is busy
    await layer.group_send("g", {"n": 1})
    assert await asyncio.wait_for(layer.receive(name), 5) == {"n": 1}
