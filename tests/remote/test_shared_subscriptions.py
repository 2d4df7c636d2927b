"""In a cluster, the subscriptions to the shards at one node share a connection, without disturbing one another."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_layer.configuration import ServerOptions
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.delivery.store import Question
from hybrid_layer.remote.redis.connections.subscription import Subscriptions
from hybrid_layer.remote.redis.hosts.cluster import hash_tags
from hybrid_layer.remote.redis.hosts.hosts import parse_hosts
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.remote.redis.wire.published import Published
from hybrid_layer.remote.runtime.backoff import ReadingLost
from tests.remote.tools import Make, listens_here
from tests.support.clusters import Cluster, cluster_of, info, slot_of, wait
from tests.support.loops import Run
from tests.support.servers import Server
from tests.support.waiting import block_until, cancelled, wait_until

TAGS = hash_tags(16)
GROUPS = [next(name for n in range(1000) if shard_for(name := f"g.{n}", 16) == tag) for tag in range(16)]
"""A group for each tag."""


def kind_of(servers: list[Server]) -> Any:
    return "valkey" if servers[0].kind == "redis-6.2" else servers[0].kind


@pytest.fixture(scope="module")
def movable(servers: list[Server]) -> Iterator[Cluster]:
    """A cluster whose slots tests may move."""
    with cluster_of(kind_of(servers)) as cluster:
        yield cluster


def listening(node: Server) -> set[bytes]:
    """The ids of the subscribed connections to a node."""
    return {line.split()[0] for line in node.command("CLIENT", "LIST", "TYPE", "PUBSUB").splitlines()}


def tags_at(cluster: Cluster, node: Server) -> list[int]:
    """The numbers of the tags whose slots a node has."""
    slots = cluster.slots_of(node)
    return [number for number, tag in enumerate(TAGS) if slot_of(tag) in slots]


# Subscriptions alone


class Listener:
    """A subscription to the shard of `host`, and the task that reads it."""

    def __init__(self, cluster: Cluster, prefix: str, host: Any, subscriptions: Subscriptions) -> None:
        self.another = partial(Listener, cluster, prefix, host, subscriptions)
        self.cluster = cluster
        self.slot = host.slot
        self.keys = Keys(prefix, host.tag)
        self.got: list[int] = []
        self.lost = ""
        self.subscription = subscriptions.new(host, Published(self.keys, "me"), self._take, lambda: None)
        self.reading: asyncio.Task[None] | None = None

    def _take(self, kind: str, group: str, what: Any) -> None:
        self.got.append(int(what))

    def publish(self, *numbers: int) -> None:
        """Publish to it, in the form of marks."""
        owner = self.cluster.owner(self.slot)
        for number in numbers:
            assert owner.command("SPUBLISH", self.keys.process("me"), f"m|{number}") == 1

    async def begin(self) -> None:
        await self.subscription.open()
        await self.subscription.subscribe(["g"])
        self.read()

    def read(self) -> None:
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                await self.subscription.read()
        except ReadingLost as error:
            self.lost = str(error)

    async def stop(self) -> None:
        if self.reading is not None:
            await cancelled(self.reading)

    async def end(self) -> None:
        await self.stop()
        await self.subscription.close()

    async def gets(self, numbers: list[int]) -> None:
        await wait_until(lambda: len(self.got) >= len(numbers), "everything has come")
        assert self.got == numbers


@pytest.fixture
def listeners(movable: Cluster, prefix: str) -> Callable[[int], list[Listener]]:
    """`listeners(number)`: so many at the first node, not open yet."""

    def make(number: int) -> list[Listener]:
        options = SimpleNamespace(timeout=5.0, block_time=5.0)
        context: Any = SimpleNamespace(options=options, statistics=SimpleNamespace(count=lambda key: None))
        subscriptions = Subscriptions(context)
        hosts = parse_hosts(ServerOptions(hosts=[movable.host()]))
        found = tags_at(movable, movable.primaries[0])[:number]
        return [Listener(movable, prefix, hosts[each], subscriptions) for each in found]

    return make


async def test_whoever_stops_reading_holds_up_no_other(listeners: Any, movable: Cluster) -> None:
    node, before = movable.primaries[0], listening(movable.primaries[0])
    three = listeners(3)
    await asyncio.gather(*(each.begin() for each in three))
    assert len(listening(node) - before) == 1
    for n in range(60):
        stops = three[n % 3]
        await stops.stop()
        for each in three:
            each.publish(n)
        for each in three:
            if each is not stops:
                await each.gets(list(range(n + 1)))
        stops.read()
        await stops.gets(list(range(n + 1)))
    dice = random.Random(1)
    for n in range(60, 300):
        for each in three:
            each.publish(n)
        each = dice.choice(three)
        await each.stop()
        each.read()
    for each in three:
        await each.gets(list(range(300)))
        await each.end()


async def test_who_ends_unsubscribes_and_the_last_one_closes(listeners: Any, movable: Cluster) -> None:
    node, before = movable.primaries[0], listening(movable.primaries[0])

    def is_silent(name: str) -> bool:
        return bool(node.command("PUBSUB", "SHARDNUMSUB", name)[1] == 0)

    three = listeners(3)
    await asyncio.gather(*(each.begin() for each in three))
    connection = listening(node) - before
    for each in three:
        each.subscription.unsubscribe(["g"])
        await wait_until(partial(is_silent, each.keys.group("g")), "it has left the group")
    for number, each in enumerate(three):
        for other in three[number:]:
            other.publish(number)
            await other.gets(list(range(number + 1)))
        await each.end()
        for name in (each.keys.process("me"), each.keys.epoch):
            await wait_until(partial(is_silent, name), "its subscriptions have ended")
        if each is not three[-1]:
            assert connection <= listening(node)
    await wait_until(lambda: not connection & listening(node), "the connection is closed")


async def test_the_next_subscription_gets_nothing_of_the_one_before(listeners: Any) -> None:
    one, other = listeners(2)
    for each in (one, other):
        await each.begin()
        await each.stop()  # nobody reads
    one.publish(1, 2)
    await one.end()
    following = one.another()
    await following.begin()
    following.publish(3)
    await following.gets([3])
    assert one.got == []
    for each in (following, other):
        await each.end()


async def test_a_slot_that_moves_concerns_its_tag_alone(listeners: Any, movable: Cluster) -> None:
    """Also if one unsubscribes meanwhile, which the node refuses then."""
    node, before = movable.primaries[0], listening(movable.primaries[0])
    one, other = listeners(2)
    for each in (one, other):
        await each.begin()
        await each.stop()
    connection = listening(node) - before
    one.publish(1)
    movable.move(one.slot, movable.primaries[1])
    one.subscription.unsubscribe(["g"])
    answers: list[Exception | None] = []
    for group in (None, "h"):
        other.subscription.ask(Question(group, lambda: answers.append(None), answers.append))
    other.publish(1)
    for each in (one, other):
        each.read()
    await wait_until(lambda: one.lost and len(answers) == 2, "one is lost, the questions of the other are answered")
    assert "moved to another node" in one.lost
    assert one.got == [1]
    assert answers == [None, None]
    await one.end()

    following = one.another()
    await following.begin()  # at the new node
    following.publish(1)
    movable.move(one.slot, node)
    await wait_until(lambda: following.lost, "it is lost")
    await following.end()
    following = one.another()
    await following.begin()
    for each in (following, other):
        each.publish(2)
    await following.gets([2])
    await other.gets([1, 2])
    assert connection == listening(node) - before
    for each in (following, other):
        await each.end()


async def test_who_subscribes_where_the_slot_was_is_lost_alone(listeners: Any, movable: Cluster) -> None:
    one, other = listeners(2)
    for each in (one, other):
        await each.begin()
    await one.end()
    movable.move(one.slot, movable.primaries[1])
    following = one.another()
    await following.subscription.open()  # it does not know of the move
    with pytest.raises(ReadingLost, match="MOVED|" + str(one.slot)):
        await following.subscription.subscribe(["g"])
    await following.end()
    other.publish(1)
    await other.gets([1])
    movable.move(one.slot, movable.primaries[0])
    await other.end()


async def test_a_connection_that_breaks_is_lost_for_all(listeners: Any, movable: Cluster) -> None:
    node, before = movable.primaries[0], listening(movable.primaries[0])
    three = listeners(3)
    for each in three:
        await each.begin()
        each.publish(1)
    (connection,) = listening(node) - before
    node.command("CLIENT", "KILL", "ID", connection.partition(b"=")[2])
    await wait_until(lambda: all(each.lost for each in three), "all are lost")
    for each in three:
        assert each.got == [1]
        await each.end()
        following = each.another()
        await following.begin()
        following.publish(2)
        await following.gets([2])
        await following.end()


def test_a_loop_closed_without_notice(listeners: Any, movable: Cluster) -> None:
    node, before = movable.primaries[0], listening(movable.primaries[0])
    loop = asyncio.new_event_loop()
    three: list[Listener] = []

    async def begin() -> None:
        three.extend(listeners(3))
        for each in three:
            await each.begin()

    loop.run_until_complete(begin())
    loop.close()
    assert len(listening(node) - before) == 1
    for each in three:
        assert each.reading is not None
        each.subscription.abort(each.reading)
    block_until(lambda: not listening(node) - before, "the connection is closed")


# Layers


def numbered(sent: dict[str, int], group: str) -> dict[str, Any]:
    sent[group] += 1
    return {"type": "test", "group": group, "n": sent[group]}


class Reader:
    """A layer whose channel is in a group on each tag, and what has come there."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.name = ""
        self.got: dict[str, list[int]] = defaultdict(list)

    async def join(self) -> None:
        self.name = await self.layer.new_channel()
        for group in GROUPS:
            await self.layer.group_add(group, self.name)

    async def read(self) -> None:
        while True:
            message = await self.layer.receive(self.name)
            self.got[message["group"]].append(message["n"])


async def test_one_connection_for_each_node(movable: Cluster, make_pubsub: Make) -> None:
    before = {node: listening(node) for node in movable.primaries}
    reader = Reader(make_pubsub(hosts=[movable.host()]))
    await reader.join()

    def connections() -> list[int]:
        return [len(listening(node) - before[node]) for node in movable.primaries]

    assert connections() == [1, 1, 1]
    reading = asyncio.create_task(reader.read())
    await listens_here(reader.layer)
    await wait_until(lambda: connections() == [1, 1, 1], "only those of this loop are left")
    sent: dict[str, int] = defaultdict(int)
    for group in GROUPS:
        await reader.layer.group_send(group, numbered(sent, group))
    await wait_until(lambda: reader.got == {group: [1] for group in GROUPS}, "each node has delivered")
    await cancelled(reading)


async def test_a_slot_moves_and_the_others_miss_nothing(movable: Cluster, make_pubsub: Make) -> None:
    hosts = [movable.host()]
    reader, other = Reader(make_pubsub(hosts=hosts, capacity=100_000)), make_pubsub(hosts=hosts)
    await reader.join()
    reading = asyncio.create_task(reader.read())
    await listens_here(reader.layer)
    ids = {node: listening(node) for node in movable.primaries}
    sent: dict[str, int] = defaultdict(int)

    async def send(groups: list[str]) -> None:
        while not moved.done():
            await asyncio.gather(*(other.group_send(group, numbered(sent, group)) for group in groups))

    number = tags_at(movable, movable.primaries[0])[0]
    moves = GROUPS[number]
    moved = asyncio.ensure_future(asyncio.to_thread(movable.move, slot_of(TAGS[number]), movable.primaries[1]))
    others = [group for group in GROUPS if group != moves]
    await asyncio.gather(send(others), send([moves]))
    before_end = sent[moves]

    async def is_back() -> bool:
        await other.group_send(moves, numbered(sent, moves))
        return bool(reader.got[moves] and reader.got[moves][-1] > before_end)

    await wait_until(is_back, "the group gets messages again")
    for group in others:
        await other.group_send(group, numbered(sent, group))
    everything = {group: list(range(1, sent[group] + 1)) for group in others}
    await wait_until(lambda: all(reader.got[group] == everything[group] for group in others), "all has come")
    assert reader.got[moves] == sorted(set(reader.got[moves]))
    assert all(ids[node] <= listening(node) for node in movable.primaries), "no connection was closed"
    await cancelled(reading)
    movable.move(slot_of(TAGS[number]), movable.primaries[0])


async def test_a_node_dies_and_those_at_others_miss_nothing(servers: list[Server], make_pubsub: Make) -> None:
    with cluster_of(kind_of(servers), 3, cluster_require_full_coverage="no") as cluster:
        hosts = [cluster.host()]
        reader, other = Reader(make_pubsub(hosts=hosts, capacity=100_000, timeout=2)), make_pubsub(hosts=hosts)
        await reader.join()
        reading = asyncio.create_task(reader.read())
        await listens_here(reader.layer)
        gone = cluster.primaries[2]
        groups = [GROUPS[number] for node in cluster.primaries[:2] for number in tags_at(cluster, node)]
        sent: dict[str, int] = defaultdict(int)

        def die() -> None:
            gone.kill()
            wait(lambda: "cluster_slots_fail:0" not in info(cluster.primaries[0]))

        died = asyncio.ensure_future(asyncio.to_thread(die))
        while not died.done():
            await asyncio.gather(*(other.group_send(group, numbered(sent, group)) for group in groups))
        everything = {group: list(range(1, sent[group] + 1)) for group in groups}
        await wait_until(lambda: reader.got == everything, "all has come")
        lost = next(group for group in GROUPS if group not in groups)
        with pytest.raises(RemoteUnavailable):
            await other.group_send(lost, {})
        await cancelled(reading)


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
def test_every_message_once_and_in_order_while_they_move_between_loops(
    movable: Cluster, make_pubsub: Make, run: Run
) -> None:
    hosts = [movable.host()]
    reader, other = Reader(make_pubsub(hosts=hosts, capacity=100_000)), make_pubsub(hosts=hosts)
    run(reader.join())
    sent: dict[str, int] = defaultdict(int)
    is_over = threading.Event()

    async def send() -> None:
        while not is_over.is_set():
            await asyncio.gather(*(other.group_send(group, numbered(sent, group)) for group in GROUPS))

    async def read_here(close: bool) -> None:
        reading = asyncio.create_task(reader.read())
        await listens_here(reader.layer)
        before = len(reader.got[GROUPS[0]])
        await wait_until(lambda: len(reader.got[GROUPS[0]]) > before + 5, "messages come")
        if close:
            await cancelled(reading)
            await reader.layer.close()

    async def read_rest() -> None:
        reading = asyncio.create_task(reader.read())
        everything = {group: list(range(1, sent[group] + 1)) for group in GROUPS}
        await wait_until(lambda: all(len(reader.got[g]) >= sent[g] for g in GROUPS), "all has come")
        assert reader.got == everything
        await cancelled(reading)

    thread = threading.Thread(target=lambda: asyncio.run(send()))
    thread.start()
    try:
        for turn in range(4):
            run(read_here(close=turn % 2 == 0))
    finally:
        is_over.set()
        thread.join()
    run(read_rest())
