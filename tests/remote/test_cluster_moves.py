"""Redis Cluster: slots that move to another node, and primaries that are replaced, under traffic."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.redis.hosts.cluster import hash_tags
from tests.remote.tools import Make, exchange, recovered, resumes
from tests.remote.traffic import Traffic
from tests.support.clusters import Cluster, cluster_of, info, slot_of, wait
from tests.support.loops import Run
from tests.support.marks import but_thorough
from tests.support.servers import Server
from tests.support.waiting import until, wait_until

(TAG,) = hash_tags(1)
SLOT = slot_of(TAG)
LABEL = "cluster"
by_both_ways = pytest.mark.parametrize(
    "layer_class", but_thorough([RedisChannelLayer, RedisPubSubChannelLayer], RedisPubSubChannelLayer)
)


def kind_for(layer_class: Any, servers: list[Server]) -> Any:
    """The kind of server that is tested, unless it lacks pub/sub in clusters."""
    kind = servers[0].kind
    return "valkey" if kind == "redis-6.2" and layer_class is RedisPubSubChannelLayer else kind


@pytest.fixture(scope="module")
def movable(servers: list[Server]) -> Iterator[Callable[[Any], Cluster]]:
    """`movable(layer_class)`: a cluster whose slots tests may move."""
    clusters: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:

        def cluster(layer_class: Any) -> Cluster:
            kind = kind_for(layer_class, servers)
            if kind not in clusters:
                clusters[kind] = stack.enter_context(cluster_of(kind))
            found: Cluster = clusters[kind]
            return found

        yield cluster


def elsewhere(cluster: Cluster) -> Server:
    """A primary that does not own the slot."""
    return next(node for node in cluster.primaries if node is not cluster.owner(SLOT))


# Slots


async def some_traffic(traffic: Traffic) -> None:
    before = len(traffic.received)
    await wait_until(lambda: len(traffic.received) > before + 20, "messages come")


@by_both_ways
async def test_a_slot_moves_under_traffic(layer_class: Any, movable: Any, make: Make) -> None:
    cluster = movable(layer_class)
    hosts = [cluster.host(virtual_shards=1)]
    layer, other = (make(layer_class, hosts=hosts) for _ in range(2))
    traffic = Traffic(layer, other, LABEL)

    async def move() -> None:
        for _ in range(2):
            await some_traffic(traffic)
            target = elsewhere(cluster)
            source = cluster.begin_move(SLOT, target)
            await until(time.monotonic() + 0.2)  # calls wait for the end
            while cluster.move_keys(SLOT, source, target):
                pass
            cluster.end_move(SLOT, source, target)
        await some_traffic(traffic)

    await exchange(layer)
    moving = asyncio.create_task(move())
    await traffic.run(moving.done)
    await moving
    assert not traffic.failures
    lost = set(traffic.sent[:-3]) - set(traffic.received)
    kept = {"normal"} if layer_class is RedisPubSubChannelLayer else {"normal", "direct", "group"}
    assert not {each for each in lost if each[0] in kept}
    assert all(each in traffic.sent for each in traffic.received)
    for kind in kept:
        numbers = [number for each, number in traffic.received if each == kind]
        assert numbers == sorted(numbers)


async def test_flush_after_a_slot_has_moved(movable: Any, make_layer: Make) -> None:
    """SCAN names no key, so the node that had the slot answers: it has nothing."""
    cluster = movable(RedisChannelLayer)
    layer, other = (make_layer(hosts=[cluster.host(virtual_shards=1)]) for _ in range(2))
    await layer.group_add("g", "normal")
    await layer.send("normal", {"n": "before"})
    await layer.receive("normal")  # the loop has connections of its own from then on, which have not met the move
    for _ in range(2):
        await layer.send("normal", {"n": "before"})
    await asyncio.to_thread(cluster.move, SLOT, elsewhere(cluster))
    await layer.flush()
    await other.group_send("g", {"n": "to nobody"})
    await other.send("normal", {"n": "after"})
    async with asyncio.timeout(10):
        assert await other.receive("normal") == {"n": "after"}


@by_both_ways
async def test_a_slot_that_is_on_its_way_for_longer_than_the_timeout(
    layer_class: Any, movable: Any, make: Make
) -> None:
    cluster = movable(layer_class)
    layer, other = (
        make(layer_class, hosts=[cluster.host(virtual_shards=1)], timeout=0.5, on_disconnect="disconnected")
        for _ in range(2)
    )
    name = await layer.new_channel()
    await layer.group_add("g", name)
    for member in ("normal", "leaves"):
        await other.group_add("g", member)
    await other.send("normal", {"n": 1})
    target = elsewhere(cluster)
    source = cluster.begin_move(SLOT, target)
    await other.group_discard("g", "leaves")  # that keeps no channel in a group
    for when in ("before", "after"):
        for call in (
            lambda: other.send("empty", {}),
            lambda: other.send(name, {}),
            lambda: other.group_send("g", {}),
        ):
            began = time.monotonic()
            with pytest.raises(RemoteUnavailable, match="the slot of its keys is moving to another node"):
                await call()
            assert 0.2 < time.monotonic() - began < 3, when
        cluster.move_keys(SLOT, source, target)
    cluster.end_move(SLOT, source, target)
    assert await layer.receive("normal") == {"n": 1}
    await recovered(lambda: other.group_send("g", {"n": 2}))
    # No process took the members for dead, and no member got a message that was refused.
    assert await layer.receive("normal") == {"n": 2}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive("leaves"), 0.2)
    if layer_class is RedisChannelLayer:
        assert await layer.receive(name) == {"n": 2}
        assert (await other.statistics())["dead"] == 0


# Primaries


@pytest.fixture
def own(servers: list[Server]) -> Iterator[Callable[[Any], Cluster]]:
    """`own(layer_class)`: a cluster with replicas, for one test."""
    with contextlib.ExitStack() as stack:
        yield lambda layer_class: stack.enter_context(cluster_of(kind_for(layer_class, servers), 3, 3))


def replica_of(cluster: Cluster, primary: Server) -> Server:
    return cluster.replicas[cluster.primaries.index(primary)]


def is_promoted(replica: Server) -> Callable[[], bool]:
    """Whether `replica` is a primary; asked at most each 0.05 s."""
    asked = 0.0

    def promoted() -> bool:
        nonlocal asked
        if time.monotonic() - asked < 0.05:
            return False
        asked = time.monotonic()
        return bool(replica.command("ROLE")[0] == b"master")

    return promoted


@by_both_ways
async def test_a_primary_dies_under_traffic(layer_class: Any, own: Any, make: Make) -> None:
    cluster = own(layer_class)
    layer, other = (make(layer_class, hosts=[cluster.host(virtual_shards=1)]) for _ in range(2))
    traffic = Traffic(layer, other, LABEL)
    primary = cluster.owner(SLOT)
    replica = replica_of(cluster, primary)
    await exchange(layer)
    await other.send("kept", {"n": 1})
    wait(lambda: bool(primary.command("WAIT", 1, 1000)))
    primary.kill()
    await traffic.run(is_promoted(replica))
    assert await layer.receive("kept") == {"n": 1}


@by_both_ways
async def test_a_primary_is_replaced_in_order_under_traffic(layer_class: Any, own: Any, make: Make) -> None:
    """As before an update of its machine: the replica has everything, and nothing is lost."""
    cluster = own(layer_class)
    layer, other = (make(layer_class, hosts=[cluster.host(virtual_shards=1)]) for _ in range(2))
    traffic = Traffic(layer, other, LABEL)
    replica = replica_of(cluster, cluster.owner(SLOT))
    await exchange(layer)
    running = asyncio.create_task(traffic.run(is_promoted(replica)))
    await some_traffic(traffic)
    replica.command("CLUSTER", "FAILOVER")
    await running
    assert not traffic.failures
    lost = {each for each in traffic.sent[:-3] if each not in traffic.received}
    assert not lost or layer_class is RedisPubSubChannelLayer
    assert not any(kind == "normal" for kind, _ in lost)


def test_a_primary_that_stops_is_given_up(own: Any, make_layer: Make, run: Run) -> None:
    cluster = own(RedisChannelLayer)
    layer = make_layer(hosts=[cluster.host(virtual_shards=1)], timeout=1, block_time=0.3)
    primary = cluster.owner(SLOT)

    try:
        run(resumes(layer, primary.pause))
    finally:
        primary.resume()


async def test_with_a_node_gone_the_others_serve(servers: list[Server], make_layer: Make) -> None:
    with cluster_of(servers[0].kind, 3, cluster_require_full_coverage="no") as cluster:
        layer = make_layer(hosts=[cluster.host()], timeout=1)
        channels = [f"queue.{n}" for n in range(64)]
        gone = cluster.primaries[2]
        tags = hash_tags(16)
        owners = {f"g.{n}": cluster.owner(slot_of(tags[shard_for(f"g.{n}", 16)])) for n in range(20)}
        group = next(name for name, owner in owners.items() if owner is not gone)
        for channel in channels:
            await layer.group_add(group, channel)
        gone.kill()
        wait(lambda: "cluster_slots_fail:0" not in info(cluster.primaries[0]))
        with pytest.raises(RemoteUnavailable, match=rf":{gone.port} .*The other members of {group} got"):
            await layer.group_send(group, {"n": 1})
        results = await asyncio.gather(*(layer.send(channel, {}) for channel in channels), return_exceptions=True)
        failed = [channel for channel, result in zip(channels, results, strict=True) if result is not None]
        assert 10 < len(failed) < 40
        for channel in set(channels) - set(failed):
            assert await layer.receive(channel) == {"n": 1}
