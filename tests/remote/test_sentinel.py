"""Services of Sentinel: how they are named, what finds their master, and failovers under traffic."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hybrid_layer import HybridChannelLayer
from hybrid_layer.configuration import ServerOptions
from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.redis.discovery import DiscoveredTransport
from hybrid_layer.remote.redis.hosts.hosts import parse_hosts
from tests.remote.tools import Make, exchange, receiver_is_told, refused, resumes
from tests.remote.traffic import Traffic
from tests.support.loops import Run
from tests.support.probe import listen_to_sentinels_again_after, open_sockets, probe, when_sentinels_are_asked
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.sentinels import Group, sentinel_group
from tests.support.servers import HOST, Server, free_port
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.any_server


@pytest.fixture(scope="module")
def group(servers: list[Server]) -> Iterator[Group]:
    """Two services whose master stays where it is."""
    with sentinel_group(servers[0].kind, "one", "two") as group:
        yield group


@pytest.fixture
def own(servers: list[Server]) -> Iterator[Group]:
    """A service for one test's failovers."""
    with sentinel_group(servers[0].kind) as group:
        yield group


def address(server: Server) -> tuple[str, int]:
    return server.host, server.port


# Finding the master


async def test_a_service_beside_another_and_a_plain_server(group: Group, server: Server, make_layer: Make) -> None:
    layer = make_layer(hosts=[group.host(0), server.url, group.host(1, db=2)])
    await exchange(layer)
    for shard, each in enumerate((group.services[0].servers[0], server, group.services[1].servers[0])):
        name = next(f"queue.{n}" for n in range(100) if shard_for(f"queue.{n}", 3) == shard)
        await layer.send(name, {"n": shard})
        database = each.command("INFO", "keyspace")
        assert "db2" in database if shard == 2 else database
        assert await layer.receive(name) == {"n": shard}


async def test_services_of_the_sentinels_in_hosts(group: Group, make_layer: Make) -> None:
    hosts = [address(sentinel) for sentinel in group.sentinels]
    layer = make_layer(hosts=hosts, services=["two", "one"])
    same = make_layer(hosts=[group.host(1), group.host(0)])
    await exchange(layer)
    for n in range(10):
        await layer.send(f"queue.{n}", {"n": n})
        assert await same.receive(f"queue.{n}") == {"n": n}


@pytest.mark.parametrize("layer_class", [RedisChannelLayer, HybridChannelLayer])
async def test_all_services_that_the_sentinels_know(layer_class: Any, group: Group, make: Make) -> None:
    hosts = [address(sentinel) for sentinel in group.sentinels]
    layer, same = (make(layer_class, hosts=hosts, services=services) for services in ("*", ["one", "two"]))
    assert (await layer.statistics())["sent"] == 0
    waiting = asyncio.create_task(layer.receive("normal"))
    names = await asyncio.gather(*(each.new_channel() for each in (layer, same) for _ in range(5)))
    for n, name in enumerate(names):
        await layer.group_add("g", name)
        await (same if n < 5 else layer).send(name, {"n": n})
        assert await (layer if n < 5 else same).receive(name) == {"n": n}
    await same.group_send("g", {"n": "all"})
    for n, name in enumerate(names):
        assert await (layer if n < 5 else same).receive(name) == {"n": "all"}
    await same.send("normal", {"n": 1})
    assert await waiting == {"n": 1}
    await layer.group_discard("g", names[0])
    await layer.flush()


def test_all_services_of_sentinels_that_are_away(make_layer: Make, run: Run) -> None:
    gone = free_port()
    layer = make_layer(hosts=[(HOST, gone)], services="*", timeout=0.5)
    run(refused(layer, f"The services of the Sentinels are not known: {HOST}:{gone}: Error 111"))


def test_local_channels_work_while_all_sentinels_are_away(prefix: str, run: Run) -> None:
    waiting = set()

    async def main(layer: Any) -> None:
        for n in range(20):
            await layer.send("normal", {"n": n})
            assert await layer.receive("normal") == {"n": n}
            waiting.add(probe(layer).search)
        await layer.close()

    layer = HybridChannelLayer(hosts=[(HOST, free_port())], services="*", prefix=prefix, timeout=0.5)
    run(main(layer))
    (once,) = waiting
    assert not once.done()
    del layer
    gc.collect()
    once.result(timeout=20)  # no caller waits for a layer that is garbage


def test_sentinels_that_are_gone_or_silent_are_passed_over(group: Group, make_layer: Make, run: Run) -> None:
    with socket.create_server((HOST, 0)) as deaf:
        gone = free_port()
        entry = group.host()
        entry["sentinels"] = [deaf.getsockname(), (HOST, gone), entry["sentinels"][0]]
        run(exchange(make_layer(hosts=[entry])))


async def test_an_answer_is_used_again_for_as_long_as_the_option_says(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def count(label: str) -> None:
        nonlocal asked
        asked += str(group.sentinels[0].port) in label  # layers of other tests may still be about

    when_sentinels_are_asked(monkeypatch, count)
    options = [ServerOptions(hosts=[group.host()], sentinel_refresh_interval=interval) for interval in (0, 60)]
    found: list[Any] = list(map(parse_hosts, options))
    every_time, seldom = (hosts[0] for hosts in found)
    for _ in range(3):
        await seldom.connection()
    assert asked == 1
    seldom.invalidate()
    await seldom.connection()
    assert asked == 2
    for _ in range(3):
        await every_time.connection()
    assert asked == 5


def test_passwords_of_sentinels_and_of_servers(server: Server, make_layer: Make, run: Run) -> None:
    with sentinel_group(server.kind, sentinels=1, password="of sentinels", requirepass="of servers") as group:
        entry = group.host(password="of servers", sentinel_kwargs={"password": "of sentinels"})
        run(exchange(make_layer(hosts=[entry])))
        for wrong, cause in (
            ({"password": "of servers"}, "Authentication required"),
            ({"password": "wrong", "sentinel_kwargs": {"password": "of sentinels"}}, "username-password"),
        ):
            run(refused(make_layer(hosts=[group.host(**wrong)], timeout=0.5), rf"mymaster \(Sentinels .*{cause}"))


# Errors


def test_a_service_that_nobody_knows(group: Group, make_layer: Make, run: Run) -> None:
    layer = make_layer(hosts=[{**group.host(), "master_name": "three"}], timeout=0.5)
    run(
        refused(
            layer, rf"three \(Sentinels .* not available: .*:{group.sentinels[0].port} knows no 'three', only 'one'"
        )
    )


def test_no_sentinel_and_servers_in_the_place_of_sentinels(server: Server, make_layer: Make, run: Run) -> None:
    gone = free_port()
    layer = make_layer(hosts=[{"sentinels": [(HOST, gone), address(server)], "master_name": "m"}], timeout=0.5)
    run(refused(layer, rf"no Sentinel names a master.*Error 111 connecting to {HOST}:{gone}"))
    run(refused(layer, rf"{HOST}:{server.port}: it is no Sentinel"))


def test_sentinels_in_the_place_of_servers(
    group: Group, make_layer: Make, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    sentinel = group.sentinels[0]
    layer = make_layer(hosts=[address(sentinel)])
    remedy = r"it is a Sentinel, .*hosts=\[\{'sentinels': \[\(host, port\), ...\], 'master_name': '...'\}\]"
    run(refused(layer, rf"{HOST}:{sentinel.port} is not available: {remedy}"))
    run(receiver_is_told(layer, "it is a Sentinel", caplog))


async def test_a_sentinel_is_listened_to_over_one_connection(
    group: Group, make_layer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked again and again, and a forked child touches no descriptor that is closed."""
    listen_to_sentinels_again_after(monkeypatch, 0.1)
    layer = make_layer(hosts=[group.host()], sentinel_refresh_interval=60)

    def listening() -> set[tuple[int, str]]:
        """Which connections; Sentinels themselves listen to no Sentinel."""
        return {
            (number, client["id"])
            for number, sentinel in enumerate(group.sentinels)
            for client in sentinel.command("CLIENT LIST")
            if client["sub"] != "0" or client["psub"] != "0"
        }

    await layer.send("normal", {})
    await wait_until(listening, "the Sentinels are listened to")
    before = listening()
    await until(time.monotonic() + 1.0)  # ten times as long as until it would be tried again
    assert not listening() - before  # another test's may end meanwhile
    for descriptor in open_sockets():
        os.fstat(descriptor)


# Processes


def use_and_fork(parent: Parent, options: dict[str, Any]) -> None:
    """A loop that ends, a fork while the layer is subscribed to the Sentinels, and another loop on both sides."""
    layer = RedisChannelLayer(**options)
    asyncio.run(exchange(layer))
    child = os.fork()
    asyncio.run(exchange(layer))
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_the_end_of_loops_and_forks_are_silent(group: Group, prefix: str, spawn: Spawn) -> None:
    spawn(use_and_fork, {"hosts": [group.host(0), group.host(1)], "prefix": prefix, "block_time": 0.5}).result()


# Failovers

by_both_ways = pytest.mark.parametrize("layer_class", [RedisChannelLayer, RedisPubSubChannelLayer])


def has_moved(group: Group) -> Callable[[], bool]:
    """Whether the Sentinels agree on a new master; asked at most each 0.1 s."""
    before, asked = group.announced(), time.monotonic()

    def moved() -> bool:
        nonlocal asked
        if time.monotonic() - asked < 0.1:
            return False
        asked = time.monotonic()
        return not before & group.announced()

    return moved


@by_both_ways
async def test_failover_when_the_master_dies(layer_class: Any, own: Group, make: Make) -> None:
    layer, other = (make(layer_class, hosts=[own.host()]) for _ in range(2))
    await exchange(layer)
    moved = has_moved(own)
    own.services[0].of_role(b"master").kill()
    await Traffic(layer, other, "mymaster").run(moved)


@by_both_ways
async def test_failover_while_the_old_master_goes_on(layer_class: Any, own: Group, make: Make) -> None:
    """Sentinels leave it a master for about ten seconds. Processes that stayed there would not reach later ones."""
    layer, other = (make(layer_class, hosts=[own.host()]) for _ in range(2))
    await exchange(layer)
    moved = has_moved(own)
    own.sentinels[0].command("SENTINEL", "FAILOVER", "mymaster")
    await Traffic(layer, other, "mymaster").run(moved)
    assert [server.command("ROLE")[0] for server in own.services[0].servers] == [b"master", b"master"]


def test_receivers_leave_a_master_that_stopped(own: Group, make_layer: Make, run: Run) -> None:
    layer = make_layer(hosts=[own.host()], block_time=0.3, timeout=1)
    master = own.services[0].of_role(b"master")

    try:
        run(resumes(layer, master.pause))
    finally:
        master.resume()


async def test_a_call_in_the_middle_of_a_failover_waits_for_the_promotion(own: Group, make_layer: Make) -> None:
    layer = make_layer(hosts=[own.host()], timeout=20)
    own.services[0].of_role(b"master").kill()
    await layer.send("normal", {"n": 1})
    assert await layer.receive("normal") == {"n": 1}


def test_threads_that_come_first_together_share_one_transport() -> None:
    """Else one of two would be garbage soon, and its subscriptions with it."""
    built: list[Any] = []

    class Services:
        async def hosts(self) -> tuple[Any, ...]:
            return ()

    class Transport:
        async def flush(self) -> None:
            used.append(self)

    def build(hosts: Any) -> Any:
        built.append(Transport())
        time.sleep(0.01)  # the other threads come meanwhile
        return built[-1]

    used: list[Any] = []
    services: Any = Services()
    transport = DiscoveredTransport(services, 1, build)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: asyncio.run(transport.flush()), range(4)))
    assert len(built) == 1
    assert used == built * 4
