"""The hybrid: which half carries which channel, and what still works when the remote half is down."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import ConfigurationError, HybridLayerError, RemoteUnavailable
from hybrid_layer.remote import RedisChannelLayer
from tests.contract import exits, peers
from tests.contract.configurations import LayerMaker
from tests.contract.tools import assert_silent, counted, receive, receive_numbers, send_numbers
from tests.support.processes import Spawn
from tests.support.servers import NewServer, Server, free_port
from tests.support.waiting import at_rest, outlive, receiving, turns, wait_until
from tests.support.zygote import FLAGS

hybrids = pytest.mark.configurations("hybrid")
one_server = pytest.mark.configurations("hybrid-1")


def entries(maker: LayerMaker, servers: list[Server]) -> int:
    """How many messages of the test's prefix lie on the servers, in lists or other containers."""
    found = 0
    for server in servers[: maker.configuration.hosts]:
        for key in server.command("KEYS", f"*{maker.prefix}*"):
            kind = server.command("TYPE", key)
            length = {b"list": "LLEN", b"zset": "ZCARD", b"stream": "XLEN"}.get(kind)
            found += server.command(length, key) if length else 0
    return found


@hybrids
async def test_normal_channels_are_local_the_rest_is_remote(make_layer: LayerMaker, servers: list[Server]) -> None:
    layer = make_layer()
    channel = await layer.new_channel()
    before = entries(make_layer, servers)
    await layer.send("normal", {"n": 1})
    assert entries(make_layer, servers) == before
    await layer.send(channel, {"n": 2})
    assert entries(make_layer, servers) == before + 1
    await layer.group_add("group", channel)
    with_member = entries(make_layer, servers)
    assert with_member > before + 1
    await layer.group_send("group", {"n": 3})
    assert entries(make_layer, servers) == with_member + 1
    assert (await receive(layer, "normal"))["n"] == 1
    assert sorted(await receive_numbers(layer, channel, 2)) == [2, 3]


@hybrids
async def test_routes_first_match_wins(make_layer: LayerMaker, servers: list[Server]) -> None:
    routes = {"video.local": "local", re.compile(r"video\..*"): "remote", "mail": "remote", "*.low": "remote"}
    layer = make_layer(routes=routes, capacity=1)
    expected = {
        "video.local": "local",
        "video.encode": "remote",
        "video": "local",
        "mail": "remote",
        "mails": "local",
        "my.mail": "local",
        "a.low": "remote",
        "a.lower": "local",
    }
    for name, side in expected.items():
        before = entries(make_layer, servers)
        await layer.send(name, {"to": name})
        assert entries(make_layer, servers) - before == (1 if side == "remote" else 0), name
        with pytest.raises(layer.ChannelFull):
            await layer.send(name, {"to": name})
    for name in expected:
        assert await receive(layer, name) == {"to": name}
        await assert_silent(layer, name, 0.02)


@hybrids
async def test_routes_concern_normal_channels_only(make_layer: LayerMaker, servers: list[Server]) -> None:
    layer = make_layer(routes={"*": "local", re.compile("."): "local"})
    channel = await layer.new_channel()
    before = entries(make_layer, servers)
    await layer.send(channel, {"n": 1})
    assert entries(make_layer, servers) == before + 1
    assert (await receive(layer, channel))["n"] == 1


@hybrids
async def test_routed_channel_keeps_every_promise(make_layer: LayerMaker) -> None:
    layer = make_layer(routes={"jobs": "remote"}, capacity=5, expiry=0.8)
    waiting = asyncio.create_task(receive(layer, "jobs"))
    await at_rest(layer, "jobs")
    await layer.send("jobs", {"n": "first"})
    assert (await waiting)["n"] == "first"
    await send_numbers(layer, "jobs", range(5))
    with pytest.raises(layer.ChannelFull, match="jobs"):
        await layer.send("jobs", {"n": "too many"})
    assert await receive_numbers(layer, "jobs", 2) == [0, 1]
    await outlive(0.8)
    await assert_silent(layer, "jobs", 0.05)
    await layer.group_add("group", "jobs")
    await layer.group_add("group", "local.jobs")
    await layer.group_send("group", {"n": "to the group"})
    for name in ("jobs", "local.jobs"):
        assert (await receive(layer, name))["n"] == "to the group"
        await assert_silent(layer, name, 0.02)


@pytest.mark.parametrize("hosts", [[], ()], ids=str)
def test_empty_hosts_are_refused(hosts: Any) -> None:
    with pytest.raises(ConfigurationError, match="hosts"):
        HybridChannelLayer(hosts=hosts)


def test_without_hosts_nothing_tries_to_reach_a_server(spawn: Spawn, prefix: str) -> None:
    # In a new interpreter, since a fork of the tests' zygote has imported all.
    assert spawn(exits.use_without_hosts, prefix, flags=FLAGS).result() == []


def layer_of(maker: LayerMaker, hosts: list[Any], **options: Any) -> HybridChannelLayer:
    """A hybrid whose servers are not flushed at the end."""
    return HybridChannelLayer(prefix=maker.prefix, hosts=hosts, **options)


async def assert_local_side_works(layer: Any) -> None:
    await send_numbers(layer, "normal", range(20))
    assert await receive_numbers(layer, "normal", 20) == list(range(20))
    waiting = asyncio.create_task(receive(layer, "normal"))
    await turns()
    await layer.send("normal", {"n": 1})
    assert (await waiting)["n"] == 1


async def remote_calls(layer: Any) -> list[tuple[str, BaseException | None, float]]:
    """Make every call that needs the servers, except `flush`, at once: the name, the error and the duration of each."""
    arguments: dict[str, tuple[Any, ...]] = {
        "send": ("specific.AAAAAAAAAA!1", {"n": 1}),
        "group_add": ("group", "specific.AAAAAAAAAA!1"),
        "group_discard": ("group", "specific.AAAAAAAAAA!1"),
        "group_send": ("group", {"n": 1}),
    }

    async def call(name: str) -> tuple[str, BaseException | None, float]:
        started = time.monotonic()
        error: BaseException | None = None
        try:
            await getattr(layer, name)(*arguments[name])
        except HybridLayerError as raised:
            error = raised
        return name, error, time.monotonic() - started

    return await asyncio.gather(*map(call, arguments))


@one_server
async def test_remote_down(make_layer: LayerMaker) -> None:
    port = free_port()
    layer = layer_of(make_layer, [f"redis://127.0.0.1:{port}"], timeout=1)
    await assert_local_side_works(layer)
    for name, error, took in await remote_calls(layer):
        assert isinstance(error, RemoteUnavailable), name
        assert isinstance(error, ConnectionError), name
        assert f"127.0.0.1:{port}" in str(error), name
        assert took < 4, name
    with pytest.raises(RemoteUnavailable, match=str(port)):
        await layer.flush()
    await assert_local_side_works(layer)
    await make_layer().flush()
    await layer.close()


@one_server
async def test_remote_frozen(make_layer: LayerMaker) -> None:
    """A server that accepts and never answers: calls end within `timeout`, and local messages arrive meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        port = frozen.getsockname()[1]
        layer = layer_of(make_layer, [("127.0.0.1", port)], timeout=1.5)
        calls = asyncio.create_task(remote_calls(layer))
        longest = 0.0
        while not calls.done():
            started = time.monotonic()
            await assert_local_side_works(layer)
            longest = max(longest, time.monotonic() - started)
            await turns()
        for name, error, took in await calls:
            assert isinstance(error, RemoteUnavailable), name
            assert str(port) in str(error), name
            assert took < 4, name
        assert longest < 1
        await make_layer().flush()
        await layer.close()


@one_server
async def test_remote_goes_and_comes_back(make_layer: LayerMaker, new_server: NewServer) -> None:
    server = new_server()
    layer = layer_of(make_layer, [server.url], timeout=1)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    (waiting,) = await receiving(layer, channel)
    await asyncio.to_thread(server.kill)
    await assert_local_side_works(layer)
    with pytest.raises(RemoteUnavailable, match=str(server.port)):
        await layer.send(channel, {"n": "lost"})
    await assert_local_side_works(layer)
    assert not waiting.done()
    await asyncio.to_thread(server.restart)

    async def arrives(send: Callable[..., Any], name: str, text: str) -> bool:
        try:
            await send(name, {"n": text})
        except RemoteUnavailable:
            return False
        return waiting.done()

    # The server came back empty: this process and its membership are unknown there until it has met it again.
    await wait_until(lambda: arrives(layer.send, channel, "back"), "the process is reached again")
    assert (await waiting)["n"] == "back"
    message = {"n": "back"}
    while message["n"] == "back":  # of which several may have arrived
        waiting = asyncio.create_task(layer.receive(channel))
        await wait_until(lambda: arrives(layer.group_send, "group", "member again"), "it is a member again")
        message = await waiting
    assert message["n"] == "member again"
    await make_layer().flush()
    await layer.close()


@pytest.mark.configurations("queue-1", "hybrid-1")
async def test_shard_that_is_down_is_named_and_the_others_deliver(make_layer: LayerMaker) -> None:
    """A group depends on its own shard. The queues of its normal channels are on all: in the hybrid, with a route."""
    port = free_port()
    routes = {"routes": {"*": "remote"}} if make_layer.configuration.name == "hybrid-1" else {}
    options = {"hosts": [*make_layer.hosts, f"redis://127.0.0.1:{port}"], "timeout": 1, **routes}
    layer = make_layer(**options)
    make_layer.layers.remove(layer)
    is_up = {}
    for group in [f"group.{n}" for n in range(16)]:
        try:
            await layer.group_add(group, "member.0")
            is_up[group] = True
        except RemoteUnavailable:
            is_up[group] = False
            with pytest.raises(RemoteUnavailable, match=f"127.0.0.1:{port} "):
                await layer.group_add(group, "member.0")
            with pytest.raises(RemoteUnavailable, match=f"127.0.0.1:{port} (?!.*other members)"):
                await layer.group_send(group, {"n": 0})
    assert 0 < sum(is_up.values()) < 16
    group = next(group for group, up in is_up.items() if up)
    for n in range(1, 16):
        await layer.group_add(group, f"member.{n}")
    with pytest.raises(RemoteUnavailable, match=rf"127.0.0.1:{port} .*The other members of {group} got the message"):
        await layer.group_send(group, {"n": 1})
    sent = (await layer.statistics())["sent"]
    assert 0 < sent < 16
    received = [asyncio.create_task(layer.receive(f"member.{n}")) for n in range(16)]
    await wait_until(lambda: sum(task.done() for task in received) == sent, "the members on the other shard got it")
    for task in received:
        if task.done():
            assert task.result()["n"] == 1
        task.cancel()
    await asyncio.gather(*received, return_exceptions=True)
    await layer.close()


@hybrids
async def test_both_sides_count_in_one_statistics(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=1)
    channel = await layer.new_channel()
    for name in ("normal", channel):
        await layer.send(name, {"n": 1})
        with pytest.raises(layer.ChannelFull):
            await layer.send(name, {"n": 2})
        await receive(layer, name)
    statistics = await layer.statistics()
    assert (statistics["sent"], statistics["received"], statistics["full"]) == (2, 2, 2)


@hybrids
async def test_normal_channel_in_a_group_reaches_one_reader_once(make_layer: LayerMaker) -> None:
    layer = make_layer()
    for _ in range(2):
        await layer.group_add("group", "jobs")
    waiting = asyncio.create_task(receive(layer, "jobs"))
    await at_rest(layer, "jobs")
    for n in range(10):
        await layer.group_send("group", {"n": n})
    assert (await waiting)["n"] == 0
    assert await receive_numbers(layer, "jobs", 9) == list(range(1, 10))
    await assert_silent(layer, "jobs", 0.05)
    statistics = await layer.statistics()
    assert (statistics["sent"], statistics["received"], statistics["full"]) == (10, 10, 0)


@hybrids
async def test_a_full_normal_channel_in_a_group_is_counted_once(make_layer: LayerMaker) -> None:
    layer = make_layer(capacity=2)
    await layer.group_add("group", "jobs")
    for n in range(3):
        await layer.group_send("group", {"n": n})
    await wait_until(lambda: counted(layer, "full"), "the drop is counted")
    assert await receive_numbers(layer, "jobs", 2) == [0, 1]
    statistics = await layer.statistics()
    assert (statistics["sent"], statistics["received"], statistics["full"]) == (2, 2, 1)


@one_server
@pytest.mark.one_loop
async def test_normal_channel_in_a_group_outlives_the_process_that_added_it(
    make_layer: LayerMaker, spawn: Spawn
) -> None:
    """Any reader of the channel on this machine gets the group's messages; here a process that only reads."""
    spawn(peers.add_member, make_layer.spec(), "group", "jobs").result()
    reader = spawn(peers.read, make_layer.spec(), "jobs")
    reader.ready()
    layer = make_layer()
    for n in (1, 2, None):
        await layer.group_send("group", {"n": n})
    assert reader.result(5) == [1, 2]


@pytest.mark.configurations("hybrid")
async def test_a_flush_elsewhere_empties_this_machine_too(make_layer: LayerMaker) -> None:
    """The other machine is a layer that knows the servers only: it cannot reach this machine's memory itself."""
    layer = make_layer()
    elsewhere = RedisChannelLayer(hosts=make_layer.hosts, prefix=make_layer.prefix)
    await layer.group_send("anybody", {"n": "the machine meets the servers"})
    await layer.send("normal", {"n": "before"})
    await elsewhere.flush()
    await layer.group_send("anybody", {"n": "it meets them again"})
    await layer.send("normal", {"n": "after"})
    assert (await receive(layer, "normal"))["n"] == "after"
    await layer.send("normal", {"n": "flushed once only"})
    await layer.group_send("anybody", {"n": "and again"})
    assert (await receive(layer, "normal"))["n"] == "flushed once only"
    await elsewhere.close()
