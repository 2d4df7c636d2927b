"""Several servers: what one of them holds, and what happens when one is away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.names import process_of
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.redis.wire.keys import Keys
from tests.remote.tools import WAYS, Make, recovered
from tests.support.probe import probe
from tests.support.servers import NewServer, Server
from tests.support.waiting import at_rest, cancelled, until, wait_until

LOST, BACK = {"type": "layer.lost"}, {"type": "layer.back"}


@pytest.fixture
def three(new_server: NewServer) -> list[Server]:
    """Three servers for this test alone."""
    return [new_server() for _ in range(3)]


def name_on(shard: int, what: str) -> str:
    """The name of a group or normal channel that is on this of three servers."""
    return next(name for n in range(100) if shard_for(name := f"{what}.{n}", 3) == shard)


async def first_is_home(make: Make, way: str, three: list[Server], **options: Any) -> tuple[Any, str]:
    """A layer whose process has the first server as its own, and a channel of it."""
    while True:
        layer = make(WAYS[way], hosts=[server.url for server in three], timeout=2, **options)
        with contextlib.suppress(RemoteUnavailable):  # its own is away
            channel = await layer.new_channel()
            if shard_for(channel, 3) == 0:
                return layer, channel


@pytest.mark.parametrize("way", WAYS)
async def test_a_group_concerns_one_server(way: str, make: Make, three: list[Server]) -> None:
    layer = make(WAYS[way], hosts=[server.url for server in three])
    channel, group = await layer.new_channel(), name_on(2, "g")
    await layer.group_add(group, channel)
    waiting = asyncio.create_task(layer.receive(channel))
    await at_rest(layer, channel)

    def sent() -> list[int]:
        counts = [server.command("INFO", "commandstats") for server in three]
        return [int(each.get("cmdstat_evalsha", {"calls": 0})["calls"]) for each in counts]

    before = sent()
    for n in range(50):
        await layer.group_send(group, {"n": n})
    messages = [await waiting] + [await layer.receive(channel) for _ in range(49)]
    assert messages == [{"n": n} for n in range(50)]
    more = [after - earlier for after, earlier in zip(sent(), before, strict=True)]
    assert more[2] >= 50
    assert max(more[:2]) < 5, "renewals and wakes"


async def test_another_process_finds_out_that_a_member_is_dead(make_layer: Make, three: list[Server]) -> None:
    layer = make_layer(hosts=[server.url for server in three])
    await layer.new_channel()
    for shard, server in enumerate(three):
        await layer.group_add(name_on(shard, "g"), "specific.NOBODY!1")
        keys = Keys(layer.prefix)
        assert not server.command("EXISTS", keys.group(name_on(shard, "g")))
        assert not server.command("EXISTS", keys.notes("NOBODY"))
    assert (await layer.statistics())["dead"] == 3


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_a_process_begins_while_another_server_is_away(way: str, make: Make, three: list[Server]) -> None:
    three[1].stop()
    layer, channel = await first_is_home(make, way, three)
    await layer.group_add(name_on(2, "g"), channel)
    with pytest.raises(RemoteUnavailable, match=str(three[1].port)):
        await layer.group_add(name_on(1, "g"), channel)
    await layer.send(channel, {"n": 1})
    await layer.group_send(name_on(2, "g"), {"n": 2})
    assert sorted([(await layer.receive(channel))["n"] for _ in range(2)]) == [1, 2]
    three[1].restart()
    await recovered(lambda: layer.group_add(name_on(1, "g"), channel), 10)
    waiting = asyncio.create_task(layer.receive(channel))
    await recovered(lambda: layer.group_send(name_on(1, "g"), {"n": 3}), 10)
    assert await asyncio.wait_for(waiting, 10) == {"n": 3}


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_a_new_channel_may_be_added_at_once_by_another_process(way: str, make: Make, three: list[Server]) -> None:
    other = make(WAYS[way], hosts=[server.url for server in three])
    for shard in range(3):  # it is connected, and so fast
        await other.group_add(name_on(shard, "g"), "normal")
    for n in range(5):
        layer = make(WAYS[way], hosts=[server.url for server in three])
        channel = await layer.new_channel()
        for shard in range(3):
            await other.group_add(name_on(shard, f"g{n}"), channel)
    assert (await other.statistics())["dead"] == 0


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_another_process_adds_a_channel_where_a_server_just_lost_its_data(
    way: str, make: Make, three: list[Server]
) -> None:
    layer, channel = await first_is_home(make, way, three)
    other, group = make(WAYS[way], hosts=[server.url for server in three]), name_on(1, "g")
    await other.group_add(group, "normal")
    three[1].command("FLUSHALL")
    await other.group_add(group, channel)
    assert (await other.statistics())["dead"] == 0
    three[1].command("CLIENT", "KILL", "TYPE", "normal")  # then the member's process renews
    keys = Keys(layer.prefix)
    await wait_until(lambda: three[1].command("EXISTS", keys.alive(process_of(channel))), "it is known again")
    waiting = asyncio.create_task(layer.receive(channel))
    await recovered(lambda: other.group_send(group, {"n": 1}), 10)
    assert await asyncio.wait_for(waiting, 10) == {"n": 1}


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_a_silent_server_does_not_end_memberships_on_others(way: str, make: Make, three: list[Server]) -> None:
    hosts = [server.url for server in three]
    layer = make(WAYS[way], hosts=hosts, expiry=1, timeout=5)
    channel = await layer.new_channel()
    home = shard_for(channel, 3)
    await layer.group_add(name_on(home, "g"), channel)
    three[home - 1].pause()
    for n in range(15):
        await until(time.monotonic() + 0.2)
        await layer.group_send(name_on(home, "g"), {"n": n})
        assert probe(layer).context.statistics.as_dict()["dead"] == 0  # `statistics()` would ask the silent one
    three[home - 1].resume()


async def test_a_silent_server_that_only_gets_reports_does_not_delay_renewals_on_others(
    make_layer: Make, three: list[Server]
) -> None:
    layer = make_layer(hosts=[server.url for server in three], expiry=3, timeout=8)
    await layer.group_add(name_on(0, "g"), "jobs")  # by a process that has no channel
    await layer.send(name_on(1, "jobs"), {"n": 1})
    three[1].pause()
    (key,) = [key for key in three[0].command("KEYS", Keys(layer.prefix).alive("*")) if not key.endswith(b"|")]
    for _ in range(25):
        await until(time.monotonic() + 0.2)
        seconds, microseconds = map(int, three[0].command("TIME"))
        assert float(three[0].command("GET", key).partition(b".")[0]) > seconds * 1000 + microseconds / 1000
    three[1].resume()


@pytest.mark.parametrize("way", ["queue", "pubsub"])
async def test_an_outage_of_several_servers_is_one(way: str, make: Make, three: list[Server]) -> None:
    layer, channel = await first_is_home(make, way, three, on_disconnect="layer.lost", on_reconnect="layer.back")
    got: list[Any] = []

    async def read() -> None:
        while True:
            got.append(await layer.receive(channel))

    reading = asyncio.create_task(read())
    await at_rest(layer, channel)
    for server in three[1:]:
        server.kill()
        shard = three.index(server)
        await wait_until(lambda shard=shard: probe(layer).is_lost(shard), "the outage is noticed")
    await layer.send(channel, {"type": "its own server works"})
    await wait_until(lambda: len(got) == 2, "it is received")
    three[1].restart()
    await wait_until(lambda: not probe(layer).is_lost(1), "one server is read again", 10)
    await layer.send(channel, {"type": "there is one more"})
    await wait_until(lambda: len(got) == 3, "it is received")
    three[2].restart()
    await wait_until(lambda: len(got) == 4, "the outage is over", 10)
    assert got == [LOST, {"type": "its own server works"}, {"type": "there is one more"}, BACK]
    await cancelled(reading)


async def test_a_slow_reader_of_several_servers_loses_nothing_that_fits(make_layer: Make, three: list[Server]) -> None:
    """The servers together must not return more than a channel's buffer holds."""
    layer = make_layer(hosts=[server.url for server in three], capacity=4)
    channel = await layer.new_channel()
    groups = [name_on(shard, "g") for shard in range(3)]
    for group in groups:
        await layer.group_add(group, channel)
    waiting = asyncio.create_task(layer.receive(channel))
    await at_rest(layer, channel)
    for n in range(4):
        await asyncio.gather(*(layer.group_send(group, {"n": n}) for group in groups))
    got = [(await waiting)["n"]] + [(await layer.receive(channel))["n"] for _ in range(11)]
    assert sorted(got) == sorted(list(range(4)) * 3)
    assert (await layer.statistics())["slow"] == 0


def test_each_flush_of_the_servers_is_followed_once(prefix: str) -> None:
    """Whichever server tells of it first, and whoever has not been heard of before."""
    layer = IPCChannelLayer(prefix=prefix)
    met = probe(layer).core.meet_remote_flush
    assert not any(met(shard, 7 + shard, 3) for shard in range(3)), "the first contact is no flush"
    assert met(1, 8, 4)
    assert not met(0, 7, 4)
    assert not met(2, 9, 4)
    assert met(2, 9, 5)
    assert not met(1, 8, 5)
    assert not met(3, 10, 1), "a server that is met after the flush"
    assert met(3, 10, 2)
    assert not met(0, 7, 6), "two flushes at once, both followed"
    assert not met(1, 99, 1), "a server that lost its data"
    assert met(1, 99, 2)
    assert not met(64, 1, 1)
    assert not met(64, 1, 2), "no room to remember it"
    assert met(0, 7, 2**20 + 9), "the numbers start again"
