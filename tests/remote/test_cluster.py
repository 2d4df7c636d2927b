"""Redis Cluster: how it is used, where keys and connections are, and what errors say. Changes: `test_cluster_moves`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from redis.exceptions import MovedError, ResponseError

from hybrid_layer import HybridChannelLayer
from hybrid_layer.configuration import ServerOptions
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.redis.hosts.cluster import hash_tags
from hybrid_layer.remote.redis.hosts.hosts import parse_hosts
from tests.remote.test_credentials import LEAST
from tests.remote.tools import Make, exchange, refused, told
from tests.support.clusters import Cluster, cluster_of, slot_of
from tests.support.loops import Run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import HOST, Server, free_port

TAGS = hash_tags(16)


@pytest.fixture(params=[RedisChannelLayer, RedisPubSubChannelLayer])
def on_cluster(request: pytest.FixtureRequest, make: Make) -> Make:
    """`on_cluster(**options)`: a layer of the one or the other class on the cluster that is fit for it."""
    pubsub = request.param is RedisPubSubChannelLayer
    cluster: Cluster = request.getfixturevalue("pubsub_cluster" if pubsub else "cluster")

    def make_on_cluster(**options: Any) -> Any:
        layer = make(request.param, hosts=[cluster.host()], **options)
        layer.cluster = cluster
        return layer

    return make_on_cluster


async def test_groups_reach_members_on_all_nodes(on_cluster: Make) -> None:
    """Each script runs on one node of three: a key that it touches in another's slot would be refused there."""
    layers = [on_cluster() for _ in range(12)]  # each with its inbox on the shard of its own process
    channels = [f"queue.{n}" for n in range(30)]
    names = [await layer.new_channel() for layer in layers]
    homes = {probe(layer).home.number for layer in layers}
    assert len(homes) > 3
    for adder, name in zip([layers[-1], *layers], names, strict=False):  # by another process, so by a note
        await adder.group_add("g", name)
    for channel in channels:
        await layers[0].group_add("g", channel)
    for n in range(3):
        await layers[n].group_send("g", {"n": n})
    for n in range(3):
        for layer, name in zip(layers, names, strict=True):
            assert await layer.receive(name) == {"n": n}
        for channel in channels:
            assert await layers[5].receive(channel) == {"n": n}
    await layers[1].group_discard("g", names[0])
    await layers[0].group_discard("g", channels[0])
    await layers[2].group_send("g", {"n": 3})
    await layers[2].send(names[0], {"n": "direct"})
    assert await layers[0].receive(names[0]) == {"n": "direct"}
    assert await layers[1].receive(channels[1]) == {"n": 3}


async def test_keys_and_connections_are_spread_over_the_nodes(on_cluster: Make) -> None:
    layer = on_cluster()
    nodes = layer.cluster.primaries
    before = [int(node.command("INFO", "clients")["connected_clients"]) for node in nodes]
    await exchange(layer)
    await asyncio.gather(*(layer.send(f"queue.{n}", {}) for n in range(64)))
    tags = set()
    for node in nodes:
        keys = [key.decode() for key in node.command("KEYS", f"{layer.prefix}|*")]
        found = {key.split("|")[2] for key in keys if key.split("|")[3] == "queue"}
        assert 4 <= len(found) <= 6
        tags |= found
    assert tags == {f"{{{tag}}}" for tag in TAGS}
    after = [int(node.command("INFO", "clients")["connected_clients"]) for node in nodes]
    # A connection of this loop and one of the I/O thread to each node; a reader of one normal channel; and a reader of
    # the inboxes for each tag, or a subscribed connection for each node.
    readers = len(nodes) if isinstance(layer, RedisPubSubChannelLayer) else len(TAGS)
    assert sum(after) - sum(before) <= 2 * len(nodes) + 1 + readers
    await layer.flush()


async def test_a_flush_empties_every_node_of_this_prefix(on_cluster: Make) -> None:
    layer, other = on_cluster(), on_cluster(prefix=f"{on_cluster().prefix}-other")
    for each in (layer, other):
        name = await each.new_channel()
        for n in range(64):
            await each.send(f"queue.{n}", {"n": n})
            await each.group_add(f"g.{n}", "member")
        await each.group_add("g", name)
    await layer.flush()
    for each, least in ((layer, 0), (other, 64)):
        found = [
            key
            for node in layer.cluster.primaries
            for kind in ("queue", "group", "inbox")
            for key in node.command("KEYS", f"{each.prefix}|1|*|{kind}|*")
        ]
        assert len(found) >= least if least else not found
    await layer.send("queue.0", {"n": "after"})
    assert await layer.receive("queue.0") == {"n": "after"}
    assert await other.receive("queue.0") == {"n": 0}
    await other.flush()


async def test_a_cluster_beside_a_plain_server(cluster: Cluster, server: Server, make_layer: Make) -> None:
    layer = make_layer(hosts=[server.url, cluster.host(virtual_shards=2)])
    await exchange(layer)
    for n in range(20):
        await layer.send(f"queue.{n}", {"n": n})
    on_plain = len(server.command("KEYS", f"{layer.prefix}|1|queue|*"))
    on_cluster = sum(len(node.command("KEYS", f"{layer.prefix}|1|{{*}}|queue|*")) for node in cluster.primaries)
    assert on_plain > 0
    assert on_plain + on_cluster == 20
    for n in range(20):
        assert await layer.receive(f"queue.{n}") == {"n": n}


def test_one_seed_is_enough_and_those_that_are_gone_are_passed_over(
    cluster: Cluster, make_layer: Make, run: Run
) -> None:
    last = cluster.primaries[-1]
    run(exchange(make_layer(hosts=[{"cluster": [(HOST, free_port()), last.url]}])))


def use_and_fork(parent: Parent, options: dict[str, Any]) -> None:
    """A loop that ends, a call from a short-lived loop, a fork, and another loop on both sides."""
    layer = HybridChannelLayer(**options)

    async def use() -> None:
        name = await layer.new_channel()
        await layer.group_add("g", name)
        await layer.group_send("g", {"n": 1})
        assert await asyncio.wait_for(layer.receive(name), 10) == {"n": 1}
        await layer.group_discard("g", name)

    asyncio.run(use())
    child = os.fork()
    asyncio.run(use())
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_forks_and_the_hybrid(cluster: Cluster, prefix: str, spawn: Spawn) -> None:
    spawn(use_and_fork, {"hosts": [cluster.host()], "prefix": prefix, "block_time": 0.5}).result()


# Errors


def test_a_plain_server_in_the_place_of_a_cluster(server: Server, make_layer: Make, run: Run) -> None:
    layer = make_layer(hosts=[{"cluster": [server.url]}], timeout=20)
    run(refused(layer, rf"{HOST}:{server.port} is not available: it is not a node of a cluster. Leave 'cluster' out"))


def test_no_node_at_all(make_layer: Make, run: Run) -> None:
    ports = free_port(), free_port()
    layer = make_layer(hosts=[{"cluster": [(HOST, port) for port in ports]}], timeout=0.5)
    run(refused(layer, rf"of the cluster {HOST}:{ports[0]}, {HOST}:{ports[1]} .*no node says .*{ports[1]}: Error 111"))


def test_users_passwords_and_slots_that_no_node_owns(
    servers: list[Server], prefix: str, make_layer: Make, make_pubsub: Make, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with cluster_of(servers[0].kind, 1, requirepass="hush", cluster_require_full_coverage="no") as cluster:
        node = cluster.primaries[0]
        entry = {"cluster": [(HOST, node.port)], "virtual_shards": 2}
        run(exchange(make_layer(hosts=[{**entry, "password": "hush"}])))
        run(refused(make_layer(hosts=[entry], timeout=0.5), "cluster.*Authentication required"))
        run(refused(make_layer(hosts=[{**entry, "password": "no"}], timeout=0.5), "cluster.*username-password"))
        rights = LEAST.format(password="secret", prefix=prefix).split()
        node.command("ACL", "SETUSER", "site", *rights, "+cluster|slots")
        caplog.clear()
        run(exchange(make_layer(hosts=[{**entry, "username": "site", "password": "secret"}])))
        if node.kind != "redis-6.2":
            node.command("ACL", "SETUSER", "site", f"&{prefix}|*", "+spublish", "+ssubscribe", "+sunsubscribe")
            run(exchange(make_pubsub(hosts=[{**entry, "username": "site", "password": "secret"}])))
        assert not told(caplog, node)
        slot = slot_of(hash_tags(2)[0])
        node.command("CLUSTER", "DELSLOTS", slot)
        layer = make_layer(hosts=[{**entry, "password": "hush"}], timeout=0.5)
        group = next(group for n in range(100) if shard_for(group := f"g.{n}", 2) == 0)
        with pytest.raises(RemoteUnavailable, match=rf"no node owns slot {slot}"):
            run(layer.group_send(group, {}))


async def test_pubsub_on_servers_that_lack_it_in_clusters(make_pubsub: Make) -> None:
    with cluster_of("redis-6.2", 1) as cluster:
        layer = make_pubsub(hosts=[cluster.host()], timeout=0.5)
        for call in (layer.new_channel(), layer.send("a.B!1", {}), layer.group_send("g", {})):
            with pytest.raises(RemoteUnavailable, match=r"needs Redis 7 or Valkey.*choose remote='queue'"):
                await call


async def test_what_a_moved_answer_says_is_believed(cluster: Cluster) -> None:
    found: Any = parse_hosts(ServerOptions(hosts=[cluster.host()]))
    shard = found[0]
    owner = await shard.endpoint()
    assert owner.address[1] == cluster.owner(shard.slot).port
    for refusal, address in (
        (MovedError("1 b:7001"), ("b", 7001)),
        (MovedError("1 :7002"), ("b", 7002)),  # at the host that says so
        (ResponseError("MOVED 1 ::1:7003"), ("::1", 7003)),  # as redis-py 5 has it
        (OSError("gone"), owner.address),
    ):
        shard.invalidate(refusal)
        assert (await shard.endpoint()).address == address
