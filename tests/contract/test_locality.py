"""By machine: which messages stay in shared memory, which cross the servers, and how both kinds of names live together.

Another machine is a layer that knows the servers only: it cannot reach this machine's memory.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import ConfigurationError, InvalidName, RemoteUnavailable
from hybrid_layer.remote import RedisChannelLayer
from tests.contract import peers
from tests.contract.configurations import LayerMaker
from tests.contract.tools import assert_silent, counted, receive, receive_numbers
from tests.support.probe import probe
from tests.support.processes import Spawn
from tests.support.servers import NewServer, Server, free_port
from tests.support.waiting import succeeds, wait_until

by_machine = pytest.mark.configurations("machine")
one_server = pytest.mark.configurations("machine-1")
ID = "[A-Z2-7]{10}"
STRANGER = "specific.AAAAAAAAAA-BBBBBBBBBB!1"
"""A channel of a machine that never was."""


def elsewhere(make_layer: LayerMaker, **options: Any) -> RedisChannelLayer:
    """A layer on another machine, which is closed at the end."""
    layer = RedisChannelLayer(hosts=make_layer.hosts, prefix=make_layer.prefix, **options)
    make_layer.layers.append(layer)
    return layer


def calls(server: Server, command: str) -> int:
    """How often a server has executed a command."""
    statistics: dict[str, dict[str, int]] = server.command("INFO", "commandstats")
    return statistics.get(f"cmdstat_{command}", {}).get("calls", 0)


def scripts_run(servers: list[Server]) -> int:
    """How many scripts the servers have run: all but reads."""
    return sum(calls(server, "evalsha") for server in servers)


async def are_read(servers: list[Server]) -> None:
    """Wait until the machine's streams are read: then nothing is renewed for a while."""
    await wait_until(lambda: all(calls(server, "xread") for server in servers), "the streams are read")


@pytest.mark.configurations("machine-local", "machine")
async def test_names_tell_the_machine(make_layer: LayerMaker, spawn: Spawn) -> None:
    layer, other = make_layer(), make_layer()
    name = await layer.new_channel()
    found = re.fullmatch(rf"specific\.({ID})-({ID})!\d+", name)
    assert found is not None
    again = re.fullmatch(rf"chat\.({ID})-({ID})!\d+", await other.new_channel("chat"))
    assert again is not None
    assert again[1] == found[1]
    assert again[2] != found[2]
    await layer.send(name, {"n": 1})
    await other.send(name, {"n": 2})
    assert await receive_numbers(layer, name, 2) == [1, 2]
    with pytest.raises(InvalidName, match="another process or layer object"):
        await other.receive(name)
    longest = await layer.new_channel("x" * 70)
    await layer.send(longest, {"n": 3})
    assert await receive_numbers(layer, longest, 1) == [3]


@pytest.mark.configurations("machine-local")
@pytest.mark.parametrize("locality", ["", "Machine", "host", None, 1], ids=repr)
def test_another_locality_is_refused(make_layer: LayerMaker, locality: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"locality.*'name'.*'machine'"):
        HybridChannelLayer(locality=locality)


@one_server
def test_machines_need_queues(make_layer: LayerMaker) -> None:
    with pytest.raises(ConfigurationError, match="locality='machine' needs remote='queue'"):
        make_layer(remote="pubsub")


@one_server
def test_more_shards_than_memory_can_follow_are_refused(make_layer: LayerMaker) -> None:
    with pytest.raises(ConfigurationError, match=r"65 shards.*at most 64"):
        HybridChannelLayer(prefix=make_layer.prefix, hosts=["redis://127.0.0.1:1"] * 65, locality="machine")


@one_server
async def test_within_the_machine_no_command_reaches_a_server(make_layer: LayerMaker, new_server: NewServer) -> None:
    servers = [new_server(), new_server()]
    hosts = [server.url for server in servers]
    layer, other = make_layer(hosts=hosts), make_layer(hosts=hosts)
    name, second = await layer.new_channel(), await other.new_channel()
    await layer.group_add("group", name)
    await are_read(servers)
    before = scripts_run(servers)
    for n in range(20):
        await other.send(name, {"n": n})
        await other.group_add("group", second)
        await other.group_discard("group", second)
    await other.group_add("group", second)
    assert scripts_run(servers) == before
    assert await receive_numbers(layer, name, 20) == list(range(20))
    await other.group_send("group", {"n": 20})
    assert scripts_run(servers) == before + 1
    assert await receive_numbers(layer, name, 1) == [20]
    assert await receive_numbers(other, second, 1) == [20]


@one_server
async def test_many_consumers_that_come_back_cost_nothing(make_layer: LayerMaker, new_server: NewServer) -> None:
    servers = [new_server(), new_server()]
    layer = make_layer(hosts=[server.url for server in servers])

    async def consumer(number: int) -> tuple[str, str]:
        name, group = await layer.new_channel(), f"group.{number % 5}"
        await layer.group_add(group, name)
        return group, name

    await layer.new_channel()
    await are_read(servers)
    before = scripts_run(servers)
    memberships = await asyncio.gather(*(consumer(n) for n in range(200)))
    first = scripts_run(servers) - before
    assert first == 5  # a registration of each group
    await asyncio.gather(*(layer.group_discard(*membership) for membership in memberships))
    await asyncio.gather(*(consumer(n) for n in range(200)))
    assert scripts_run(servers) - before == first


@by_machine
async def test_from_another_machine(make_layer: LayerMaker) -> None:
    layer, second, other = make_layer(), make_layer(), elsewhere(make_layer)
    name, neighbour = await layer.new_channel(), await second.new_channel()
    foreign = await other.new_channel()
    for member in (name, neighbour):
        await layer.group_add("group", member)
    await other.group_add("group", foreign)
    for n in range(10):
        await other.send(name, {"n": n})
    assert await receive_numbers(layer, name, 10) == list(range(10))
    for n in range(10):
        await other.group_send("group", {"n": n})
        await layer.group_send("group", {"n": -n})
    for reader, member in ((layer, name), (second, neighbour), (other, foreign)):
        got = await receive_numbers(reader, member, 20)
        assert [n for n in got if n > 0] == list(range(1, 10))
        assert [n for n in got if n < 0] == list(range(-1, -10, -1))
        await assert_silent(reader, member, 0.05)


@one_server
async def test_to_machines_alone_the_server_takes_the_short_way(make_layer: LayerMaker, new_server: NewServer) -> None:
    """It looks members up by score only for groups that have others, too; whether the sender has members or not."""
    server = new_server()
    layer = make_layer(hosts=[server.url])
    stranger = RedisChannelLayer(hosts=[server.url], prefix=make_layer.prefix)
    make_layer.layers.append(stranger)
    name = await layer.new_channel()
    await layer.group_add("group", name)
    for sender in (stranger, layer):  # which learns the server's clock and epoch
        await sender.group_send("group", {"n": 0})
    assert await receive_numbers(layer, name, 2) == [0, 0]
    before = calls(server, "zrangebyscore")
    for n, sender in enumerate((stranger, layer)):
        await sender.group_send("group", {"n": n})
        assert await receive_numbers(layer, name, 1) == [n]
    assert calls(server, "zrangebyscore") == before
    await stranger.group_add("group", "jobs")
    await stranger.group_send("group", {"n": 3})
    assert calls(server, "zrangebyscore") > before
    assert await receive_numbers(layer, name, 1) == [3]
    assert await receive_numbers(stranger, "jobs", 1) == [3]


@by_machine
async def test_a_group_of_one_machine_gets_members_elsewhere(make_layer: LayerMaker) -> None:
    """The server is asked less for a group that nobody else is in; whoever joins gets the next message all the same."""
    layer, other = make_layer(), elsewhere(make_layer)
    name, foreign = await layer.new_channel(), await other.new_channel()
    await layer.group_add("group", name)
    for n in range(3):
        for _ in range(3):
            await layer.group_send("group", {"n": "alone"})
        await other.group_add("group", foreign)
        await layer.group_send("group", {"n": n})
        assert (await receive(other, foreign))["n"] == n
        await other.group_discard("group", foreign)
        assert await receive_numbers(layer, name, 4) == ["alone", "alone", "alone", n]
    await assert_silent(other, foreign, 0.05)


@by_machine
async def test_memberships_that_another_machine_begins_and_ends(make_layer: LayerMaker) -> None:
    """What is sent to the group afterwards finds the membership as it was made: it travels behind the note."""
    layer, other = make_layer(), elsewhere(make_layer)
    name = await layer.new_channel()
    for n in range(5):
        await other.group_add("group", name)
        await other.group_send("group", {"n": n})
        await other.group_discard("group", name)
        await other.group_send("group", {"n": "none"})
    assert await receive_numbers(layer, name, 5) == list(range(5))
    await other.group_add("group", name)
    await other.group_send("group", {"n": "member"})
    assert (await receive(layer, name))["n"] == "member"
    await layer.group_send("group", {"n": "here"})
    assert (await receive(layer, name))["n"] == "here"
    await layer.group_discard("group", name)
    await other.group_send("group", {"n": "none"})
    await assert_silent(layer, name, 0.1)


@by_machine
async def test_both_localities_share_a_machine(make_layer: LayerMaker) -> None:
    """While a site is switched over: nothing comes twice, nothing not at all; normal channels of both included."""
    by_name, new, other = make_layer(locality="name"), make_layer(), elsewhere(make_layer)
    channels = {layer: await layer.new_channel() for layer in (by_name, new, other)}
    for layer in (by_name, new):
        await layer.group_add("group", "jobs")
        for name in channels.values():
            await layer.group_add("group", name)
    senders = [by_name, new, other]
    for n, layer in enumerate(senders):
        await layer.group_send("group", {"n": n})
    for layer, name in channels.items():
        assert sorted(await receive_numbers(layer, name, 3)) == [0, 1, 2]
        await assert_silent(layer, name, 0.05)
    assert sorted(await receive_numbers(new, "jobs", 3)) == [0, 1, 2]
    await assert_silent(by_name, "jobs", 0.05)
    for n, layer in enumerate(senders):
        for name in channels.values():
            await layer.send(name, {"n": n})
    for layer, name in channels.items():
        assert sorted(await receive_numbers(layer, name, 3)) == [0, 1, 2]
    for name in (*channels.values(), "jobs"):  # each may end what another one began
        await by_name.group_discard("group", name)
    await other.group_send("group", {"n": "none"})
    for layer, name in channels.items():
        await assert_silent(layer, name, 0.05)
    await assert_silent(new, "jobs", 0.05)


@by_machine
async def test_a_machine_that_never_was(make_layer: LayerMaker, servers: list[Server]) -> None:
    """It counts as dead, and nothing is stored for it."""
    for layer in (make_layer(), elsewhere(make_layer)):
        name = await layer.new_channel()
        await layer.group_add("group", name)
        await layer.send(STRANGER, {"n": 1})
        await layer.group_add("group", STRANGER)
        assert await counted(layer, "dead") == 2
        await layer.group_discard("group", STRANGER)
        await layer.group_send("group", {"n": 2})
        assert (await receive(layer, name))["n"] == 2
        await layer.group_discard("group", name)
        assert await counted(layer, "dead") == 2
    for server in servers:
        assert not [key for key in server.command("KEYS", "*") if b"inbox|@AAAAAAAAAA" in key]


@by_machine
async def test_a_dead_process_of_a_living_machine(make_layer: LayerMaker) -> None:
    layer, other = make_layer(), elsewhere(make_layer)
    name = await layer.new_channel()
    dead = re.sub(rf"-{ID}", "-BBBBBBBBBB", name)
    await other.send(dead, {"n": 1})
    await wait_until(lambda: counted(layer, "dead"), "its machine counts the message")
    await layer.send(dead, {"n": 2})
    assert await counted(layer, "dead") == 2
    await other.send(name, {"n": 3})
    assert (await receive(layer, name))["n"] == 3


@by_machine
async def test_full_between_machines(make_layer: LayerMaker) -> None:
    """A process that is full: its machine drops the message, and counts it. The sender is not told."""
    layer, other = make_layer(capacity=3), elsewhere(make_layer, capacity=50)
    name = await layer.new_channel()
    for n in range(5):
        await other.send(name, {"n": n})
    await wait_until(lambda: counted(layer, "full"), "the first drop is counted")
    await other.send(name, {"n": 5})

    async def drops() -> bool:
        return await counted(layer, "full") == 3

    await wait_until(drops, "all are counted")
    with pytest.raises(layer.ChannelFull):
        await layer.send(name, {"n": 6})
    assert await receive_numbers(layer, name, 3) == [0, 1, 2]
    await other.send(name, {"n": 7})
    assert await receive_numbers(layer, name, 1) == [7]


@by_machine
async def test_each_message_is_counted_once(make_layer: LayerMaker) -> None:
    layer, second, other = make_layer(), make_layer(), elsewhere(make_layer)
    names = {layer: await layer.new_channel(), second: await second.new_channel()}
    for name in names.values():
        await layer.group_add("group", name)
    await other.send(names[layer], {"n": 1})
    await layer.send(names[second], {"n": 2})
    await other.group_send("group", {"n": 3})
    assert sorted(await receive_numbers(layer, names[layer], 2)) == [1, 3]
    assert sorted(await receive_numbers(second, names[second], 2)) == [2, 3]
    assert await counted(other, "sent") == 2  # the machine is one member
    assert await counted(layer, "sent") == 1
    assert await counted(layer, "received") == 4
    await layer.group_send("group", {"n": 4})
    assert await counted(layer, "sent") == 3  # once for each process
    assert await counted(layer, "dead") == 0


@one_server
async def test_forged_entries(make_layer: LayerMaker, servers: list[Server]) -> None:
    """They are dropped and counted, make no queue, and do not stop the reading."""
    layer, other, server = make_layer(), elsewhere(make_layer), servers[0]
    name = await layer.new_channel()
    await layer.group_add("group", name)
    await other.send(name, {"n": 1})
    assert (await receive(layer, name))["n"] == 1
    [stream] = [key for key in server.command("KEYS", f"{make_layer.prefix}*") if b"|inbox|@" in key]
    epoch = server.command("GET", f"{make_layer.prefix}|1|epoch|")
    stamp = b"99999999999999"
    field = b"e"
    forged = [
        b"",
        b"1",
        b"2|" + stamp + b"|" + epoch + b"|" + name.encode() + b"|x",
        b"1|nonsense|" + epoch + b"|" + name.encode() + b"|x",
        b"1|" + stamp + b"|" + epoch + b"|jobs|x",
        b"1|" + stamp + b"|" + epoch + b"|" + STRANGER.encode() + b"|x",
        b"1|" + stamp + b"|" + epoch + b"|@AAAAAAAAAA!jobs|x",
        b"1|" + stamp + b"|" + epoch + b"9" * 15 + b"|" + name.encode() + b"|x",
        b"+|group|jobs|" + stamp + b"|" + epoch,
        b"+|group|" + STRANGER.encode() + b"|" + stamp + b"|" + epoch,
        b"+|group|" + name.encode() + b"|-1|" + epoch,
        b"-|group",
        b"f|nonsense",
        b"\xff\xfe",
    ]
    for text in forged:
        server.command("XADD", stream, "*", field, text)
    server.command("XADD", stream, "*", "another field", "x", "and another", "y")
    await other.send(name, {"n": 2})
    assert (await receive(layer, name))["n"] == 2
    assert await counted(layer, "undecodable") >= len(forged)
    await other.group_send("group", {"n": 3})
    assert (await receive(layer, name))["n"] == 3
    await assert_silent(layer, "jobs", 0.02)


@by_machine
async def test_a_group_that_the_machine_does_not_have(make_layer: LayerMaker, servers: list[Server]) -> None:
    """Its registration on the server is removed, so that it costs one message."""
    layer, other = make_layer(), elsewhere(make_layer)
    name = await layer.new_channel()
    # A new machine tells all servers of all its groups, in the background: of one without members, too, if it had any.
    await wait_until(probe(layer).has_made_groups_known, "the machine has told the servers of its groups")
    await layer.group_add("group", name)
    await layer.group_discard("group", name)
    await other.group_send("group", {"n": 1})

    def is_forgotten() -> bool:
        return not any(b"|group|group" in key for each in servers for key in each.command("KEYS", "*"))

    await wait_until(is_forgotten, "the registration is removed")
    await layer.group_add("group", name)
    await other.group_send("group", {"n": 2})
    assert (await receive(layer, name))["n"] == 2


@by_machine
async def test_a_flush_on_another_machine(make_layer: LayerMaker) -> None:
    layer, other = make_layer(), elsewhere(make_layer)
    name = await layer.new_channel()
    await layer.group_add("group", name)
    await layer.send(name, {"n": "before"})
    await other.flush()
    await other.send(name, {"n": "after"})
    first, *_ = await receive_numbers(layer, name, 1)
    if first == "before":  # until the machine has heard of the flush
        assert (await receive(layer, name))["n"] == "after"
    await layer.group_send("group", {"n": "nobody"})
    await assert_silent(layer, name, 0.05)
    await layer.group_add("group", name)
    await other.group_send("group", {"n": "again"})
    assert (await receive(layer, name))["n"] == "again"


@one_server
async def test_a_server_that_lost_everything(make_layer: LayerMaker, new_server: NewServer) -> None:
    """The machine makes itself and its groups known again; so it does for normal channels."""
    server = new_server()
    layer = make_layer(hosts=[server.url], timeout=2)
    other = RedisChannelLayer(hosts=[server.url], prefix=make_layer.prefix, timeout=2)
    name = await layer.new_channel()
    groups = [f"group.{n}" for n in range(20)]
    for group in groups:
        await layer.group_add(group, name)
    await layer.group_add("group.0", "jobs")
    server.kill()
    server.restart()
    await succeeds(lambda: other.send(name, {"n": "back"}), RemoteUnavailable)
    waiting = asyncio.create_task(receive(layer, name, 20))

    async def arrives() -> bool:
        await succeeds(lambda: other.send(name, {"n": "back"}), RemoteUnavailable)
        return waiting.done()

    await wait_until(arrives, "the machine is known again", 20)

    async def all_know() -> bool:
        return all(server.command("EXISTS", f"{make_layer.prefix}|1|group|{group}") for group in groups)

    await wait_until(all_know, "all groups are registered", 10)
    for group in groups:
        await other.group_send(group, {"n": group})
    got: list[Any] = []
    while len([n for n in got if n != "back"]) < len(groups):
        got += await receive_numbers(layer, name, 1)
    assert [n for n in got if n != "back"] == groups
    assert (await receive(layer, "jobs"))["n"] == "group.0"
    await other.close()


@by_machine
async def test_the_machine_works_while_no_server_does(make_layer: LayerMaker) -> None:
    """What is known to the servers stays usable here: direct messages; groups say who got the message."""
    layer = make_layer(hosts=[f"redis://127.0.0.1:{free_port()}"], timeout=0.3)
    make_layer.layers.remove(layer)
    with pytest.raises(RemoteUnavailable):
        await layer.new_channel()
    with pytest.raises(RemoteUnavailable):
        await layer.group_add("group", "jobs")
    await layer.send("jobs", {"n": 2})
    assert (await receive(layer, "jobs"))["n"] == 2
    await layer.close()


@one_server
async def test_a_group_while_its_server_is_down(make_layer: LayerMaker, new_server: NewServer) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url], timeout=1)
    make_layer.layers.remove(layer)
    name, second = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("group", name)
    server.kill()
    await layer.send(name, {"n": 1})
    assert (await receive(layer, name))["n"] == 1
    with pytest.raises(RemoteUnavailable, match="The members of group on this machine got the message"):
        await layer.group_send("group", {"n": 2})
    assert (await receive(layer, name))["n"] == 2
    await layer.group_add("group", second)  # the server knows that the machine has members
    with pytest.raises(RemoteUnavailable):
        await layer.group_add("another", name)
    await layer.close()


@one_server
async def test_a_machine_that_is_left_and_entered_again(make_layer: LayerMaker, spawn: Spawn) -> None:
    """A kept segment: its normal channels are members still, and what was sent meanwhile comes."""
    spawn(peers.add_member, make_layer.spec(), "group", "jobs").result()
    other = elsewhere(make_layer)
    await other.group_send("group", {"n": 1})
    layer = make_layer()
    assert (await receive(layer, "jobs"))["n"] == 1
    await other.group_send("group", {"n": 2})
    assert (await receive(layer, "jobs"))["n"] == 2
