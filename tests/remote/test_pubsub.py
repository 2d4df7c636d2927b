"""Pub/sub: what is stored, which process is subscribed to what, memberships that another process began."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.wire.entries import published_entry
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.remote.runtime import io_thread
from tests.remote.tools import Make, listens_here, recovered
from tests.support.probe import before_keeping, probe
from tests.support.servers import NewServer, Server
from tests.support.waiting import any_moment, outlive, wait_until


@pytest.fixture
def own(new_server: NewServer) -> Server:
    """A server for this test alone."""
    return new_server("valkey")


def subscribed(server: Server, prefix: str) -> dict[str, int]:
    """The pub/sub channels of `prefix`, without the prefix, and the number of their subscribers."""
    names = server.command("PUBSUB", "CHANNELS", f"{prefix}|*")
    start = len(prefix) + 3
    return {name.decode()[start:]: server.command("PUBSUB", "NUMSUB", name)[1] for name in names}


async def receive(layer: Any, channel: str) -> Any:
    return (await asyncio.wait_for(layer.receive(channel), 5))["n"]


async def assert_silent(layer: Any, channel: str) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(channel), 0.1)


async def test_nothing_is_stored_and_the_oldest_go(make_pubsub: Make, server: Server, prefix: str) -> None:
    layer = make_pubsub(capacity=10)
    name, other = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("g", name)
    for n in range(25):
        await layer.send(name, {"n": n})
        await layer.group_send("g", {"n": n})
    await layer.send(other, {"n": "its own buffer"})
    assert await receive(layer, other) == "its own buffer"
    assert (await layer.statistics())["slow"] == 40
    kinds = {key.split(b"|")[2] for key in server.command("KEYS", f"{prefix}|*")}
    assert kinds == {b"alive", b"epoch", b"counts"}
    assert [await receive(layer, name) for _ in range(10)] == [n // 2 for n in range(40, 50)]
    statistics = await layer.statistics()
    assert (statistics["full"], statistics["dead"], statistics["slow"]) == (0, 0, 40)


async def test_subscriptions_come_and_go_with_members(make_pubsub: Make, server: Server, prefix: str) -> None:
    layer, another = make_pubsub(), make_pubsub()
    one, two = await layer.new_channel(), await layer.new_channel("other.prefix")
    theirs = await another.new_channel()
    processes = {f"process|{name.partition('!')[0].rpartition('.')[2]}": 1 for name in (one, theirs)}
    assert subscribed(server, prefix) == {**processes, "epoch|": 2}
    for name in (one, two, one):
        await layer.group_add("g", name)
    await layer.group_add("h", one)
    await another.group_add("g", theirs)
    assert subscribed(server, prefix) == {**processes, "epoch|": 2, "group|g": 2, "group|h": 1}
    await layer.group_discard("g", one)
    await layer.group_discard("g", one)
    await layer.group_discard("h", one)
    await wait_until(
        lambda: subscribed(server, prefix) == {**processes, "epoch|": 2, "group|g": 2},
        "both hear the group",
    )
    await layer.group_discard("g", two)
    await wait_until(
        lambda: subscribed(server, prefix) == {**processes, "epoch|": 2, "group|g": 1},
        "one hears the group",
    )
    await layer.group_add("g", two)
    await another.group_send("g", {"n": 1})
    assert (await receive(layer, two), await receive(another, theirs)) == (1, 1)


async def test_what_ended_by_time_or_flush_is_not_listened_for(make_pubsub: Make, server: Server, prefix: str) -> None:
    hasty, patient = make_pubsub(group_expiry=0.3, block_time=0.2), make_pubsub(block_time=0.2)
    await hasty.group_add("short", await hasty.new_channel())
    await patient.group_add("long", await patient.new_channel())
    await wait_until(lambda: "group|short" not in subscribed(server, prefix), "its end is noticed")
    assert "group|long" in subscribed(server, prefix)
    await hasty.flush()
    await wait_until(lambda: "group|long" not in subscribed(server, prefix), "its end is noticed")
    assert subscribed(server, prefix)["epoch|"] == 2


async def test_a_message_to_a_process_is_one_publish(make_pubsub: Make, own: Server) -> None:
    layer, other = make_pubsub(hosts=[own.url]), make_pubsub(hosts=[own.url], capacity=1000)
    theirs = await other.new_channel()
    await layer.send(theirs, {"n": 0})
    own.command("CONFIG", "RESETSTAT")
    for n in range(1, 101):
        await layer.send(theirs, {"n": n})
    assert [await receive(other, theirs) for _ in range(101)] == list(range(101))
    calls = {name: calls_of(own, name) for name in ("publish", "evalsha")}
    assert calls == {"publish": 100, "evalsha": 0}
    # Perhaps another server answers from now on, with another clock.
    own.command("CLIENT", "KILL", "TYPE", "normal")
    await wait_until(lambda: not probe(layer).knows_server_clock, "the clock is doubted")
    await wait_until(lambda: not probe(layer).is_connected, "the end of the connection is seen")
    await layer.send(theirs, {"n": "measured anew"})  # by the script
    assert probe(layer).knows_server_clock
    assert await receive(other, theirs) == "measured anew"


async def test_a_message_to_a_group_reads_neither_clock_nor_epoch(make_pubsub: Make, own: Server) -> None:
    layer = make_pubsub(hosts=[own.url], capacity=1000)
    name = await layer.new_channel()
    await layer.group_add("g", name)
    await layer.group_send("g", {"n": 0})
    own.command("CONFIG", "RESETSTAT")
    for n in range(1, 101):
        await layer.group_send("g", {"n": n})
    calls = {command: calls_of(own, command) for command in ("publish", "get")}
    assert calls == {"publish": 100, "get": 0}
    assert [await receive(layer, name) for _ in range(101)] == list(range(101))
    await layer.group_add("g", "jobs")  # the server keeps this member
    await layer.group_send("g", {"n": 101})
    assert (await receive(layer, name), await receive(layer, "jobs")) == (101, 101)


async def test_calls_go_out_in_their_order_whatever_is_known_of_the_clock(make_pubsub: Make) -> None:
    layer, other = make_pubsub(), make_pubsub(capacity=1000)
    theirs = await other.new_channel()
    await other.group_add("g", theirs)
    await layer.send(theirs, {"n": -1})
    assert await receive(other, theirs) == -1
    await layer.send("normal", {"n": 0})
    await receive(layer, "normal")  # from then on the loop has a connection of its own
    for _ in range(20):
        probe(layer).doubt_server_clock()
        calls = []
        for n in range(50):
            call = layer.group_send("g", {"n": n}) if n % 7 == 3 else layer.send(theirs, {"n": n})
            calls.append(asyncio.create_task(call))
            if n % 10 == 0:
                await any_moment(0.0004)
        await asyncio.gather(*calls)
        assert [await receive(other, theirs) for _ in range(50)] == list(range(50))


async def test_a_flush_of_another_database_is_not_ours(make_pubsub: Make, own: Server) -> None:
    layer, other = make_pubsub(hosts=[own.url]), make_pubsub(hosts=[f"{own.url}/1"])
    mine = await layer.new_channel()
    for n in range(3):
        await layer.send(mine, {"n": n})
    await other.new_channel()
    await other.flush()
    assert [await receive(layer, mine) for _ in range(3)] == [0, 1, 2]


async def test_a_flush_that_fails_costs_nothing_later(make_pubsub: Make, own: Server) -> None:
    layer = make_pubsub(hosts=[own.url], timeout=0.5)
    mine = await layer.new_channel()
    await layer.send(mine, {"n": 0})
    assert await receive(layer, mine) == 0
    own.pause()
    with pytest.raises(RemoteUnavailable):
        await layer.flush()
    own.resume()
    await recovered(lambda: layer.send(mine, {"n": "again"}))
    assert await receive(layer, mine) == "again"


async def test_a_flush_of_a_server_that_was_emptied_costs_nothing_later(make_pubsub: Make, own: Server) -> None:
    """By another process, so that the flush makes an epoch that this process does not know."""
    layer = make_pubsub(hosts=[own.url])
    mine = await layer.new_channel()
    for n in range(20):
        own.command("FLUSHALL")
        await layer.flush()
        for _ in range(2):  # by the script, and without it
            await layer.send(mine, {"n": n})
            assert await receive(layer, mine) == n


async def test_what_was_sent_before_a_server_was_emptied_and_flushed_does_not_come_after(
    make_pubsub: Make, own: Server
) -> None:
    """It carries the epoch of lost data, which does not come back with it."""
    layer = make_pubsub(hosts=[own.url])
    mine = await layer.new_channel()
    await layer.group_add("g", mine)
    await layer.send(mine, {"n": "first"})
    assert await receive(layer, mine) == "first"
    await hold_up_listener(layer, mine)
    probe(layer).doubt_server_clock()  # so that the script sends it
    await layer.send(mine, {"n": "before"})
    own.command("FLUSHALL")
    await layer.flush()
    await layer.group_send("g", {"n": "no member any more"})
    for n in range(5):
        await layer.send(mine, {"n": n})
        assert await receive(layer, mine) == n
    await assert_silent(layer, mine)


def calls_of(server: Server, command: str) -> int:
    return server.command("INFO", "commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


async def test_what_was_sent_before_ones_own_flush_does_not_come_after(make_pubsub: Make) -> None:
    layer = make_pubsub(capacity=1000)
    mine = await layer.new_channel()
    await hold_up_listener(layer, mine)
    for n in range(500):
        await layer.send(mine, {"n": n})
    await layer.flush()
    await layer.send(mine, {"n": "after"})
    assert await receive(layer, mine) == "after"


async def test_what_was_sent_before_a_flush_that_is_known_does_not_come_after(
    make_pubsub: Make, server: Server
) -> None:
    """The answer of a script shows another process's flush before the announcement comes."""
    layer = make_pubsub()
    name = await layer.new_channel()
    await layer.group_add("g", name)
    home, keys = probe(layer).home, Keys(layer.prefix)
    flush = scripts.FLUSH.command([keys.epoch])
    epoch = server.command("EVAL", scripts.FLUSH.source, *flush[2:])
    home.epoch.meet(epoch)
    stamp = int(server.command("TIME")[0]) * 1000 + 5000
    await layer.group_add("g", name)  # anew, since the flush ended the membership
    for where, names in ((keys.process(probe(layer).name), name), (keys.group("g"), "")):
        assert server.command("PUBLISH", where, published_entry(stamp, names, b"\x81\xa1n\xa6before")) == 1
    await assert_silent(layer, name)
    server.command("PUBLISH", keys.epoch, epoch)
    await layer.send(name, {"n": "after"})
    assert await receive(layer, name) == "after"
    await layer.group_send("g", {"n": "to the group"})
    assert await receive(layer, name) == "to the group"


@pytest.mark.parametrize("text", [b"m|", b"m|stranger", b"m", b""])
async def test_a_strangers_mark_ends_no_subscription(make_pubsub: Make, server: Server, text: bytes) -> None:
    layer = make_pubsub()
    name = await layer.new_channel()  # the subscription lives in the I/O thread
    process = Keys(layer.prefix).process(probe(layer).name)
    assert server.command("PUBLISH", process, text) == 1
    await layer.group_add("g", name)
    await layer.group_send("g", {"n": 1})
    assert await receive(layer, name) == 1
    assert server.command("PUBSUB", "NUMSUB", process)[1] == 1


async def hold_up_listener(layer: Any, name: str) -> None:
    """No loop has waited for long, so the I/O thread is subscribed; the running loop sends over its own connection."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(name), 0.01)
    io_thread.current().call_soon(lambda: time.sleep(0.5))  # it is busy while this loop sends


async def test_who_joins_or_leaves_behind_a_message_that_is_still_under_way(make_pubsub: Make) -> None:
    layer = make_pubsub()
    stays, leaves, joins = [await layer.new_channel() for _ in range(3)]
    for name in (stays, leaves):
        await layer.group_add("g", name)
    await layer.send(stays, {"n": 0})
    await receive(layer, stays)  # from now on, this loop sends by itself
    io_thread.current().call_soon(lambda: time.sleep(0.5))  # and the subscriber is delayed
    await layer.group_send("g", {"n": 1})
    await asyncio.gather(layer.group_add("g", joins), layer.group_discard("g", leaves))
    await layer.group_send("g", {"n": 2})
    assert [await receive(layer, stays) for _ in range(2)] == [1, 2]
    assert await receive(layer, leaves) == 1
    assert await receive(layer, joins) == 2
    await assert_silent(layer, leaves)


async def test_a_member_that_another_process_added(make_pubsub: Make) -> None:
    """At once, once, renewed by either, ended by either; in the order of what else is sent."""
    layer, other = make_pubsub(), make_pubsub()
    theirs = await other.new_channel()
    for turn in range(30):
        await layer.group_add("g", theirs)
        await layer.group_send("g", {"n": 0})
        await layer.send(theirs, {"n": 1})
        if turn % 3 == 1:
            await other.group_add("g", theirs)
        if turn % 3 == 2:
            await layer.group_add("g", theirs)
        await layer.group_send("g", {"n": 2})
        await (layer if turn % 2 else other).group_discard("g", theirs)
        await layer.group_send("g", {"n": "no member"})
        await layer.send(theirs, {"n": 3})
        assert [await receive(other, theirs) for _ in range(4)] == [0, 1, 2, 3]
    await assert_silent(other, theirs)
    assert (await layer.statistics())["dead"] == 0


async def test_a_member_that_another_process_added_outlives_the_server(
    own: Server, make_pubsub: Make, prefix: str
) -> None:
    layer, other = make_pubsub(hosts=[own.url]), make_pubsub(hosts=[own.url])
    theirs = await other.new_channel()
    await layer.group_add("g", theirs)
    await wait_until(lambda: "group|g" in subscribed(own, prefix), "the group is heard again")
    own.restart()
    await wait_until(lambda: "group|g" in subscribed(own, prefix), "the group is heard again")
    await layer.group_send("g", {"n": 1})
    assert await receive(other, theirs) == 1


async def test_normal_members_have_a_capacity_of_their_own(make_pubsub: Make) -> None:
    layer = make_pubsub(channel_capacity={"small": 2, "large": 5})
    name = await layer.new_channel()
    for channel in (name, "small", "large"):
        await layer.group_add("g", channel)
    for n in range(4):
        await layer.group_send("g", {"n": n})
    for channel, count in ((name, 4), ("small", 2), ("large", 4)):
        assert [await receive(layer, channel) for _ in range(count)] == list(range(count))
    assert (await layer.statistics())["full"] == 2


async def test_a_full_server_refuses_a_groups_message_before_anybody_got_it(own: Server, make_pubsub: Make) -> None:
    layer = make_pubsub(hosts=[own.url])
    name = await layer.new_channel()
    await layer.group_add("g", name)
    await layer.group_add("g", "jobs")
    own.command("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(RemoteUnavailable, match="maxmemory"):
        await layer.group_send("g", {"n": 1})
    own.command("CONFIG", "SET", "maxmemory", "0")
    await layer.group_send("g", {"n": 2})
    assert (await receive(layer, name), await receive(layer, "jobs")) == (2, 2)


async def test_who_may_not_subscribe_is_told(own: Server, make_pubsub: Make, prefix: str) -> None:
    own.command("ACL", "SETUSER", "site", "on", ">secret", "~*", "+@all", "resetchannels", f"&{prefix}|1|process|*")
    layer = make_pubsub(hosts=[{"address": own.url, "username": "site", "password": "secret"}], timeout=1)
    with pytest.raises(RemoteUnavailable, match="permissions"):
        await layer.new_channel()
    own.command("ACL", "SETUSER", "site", f"&{prefix}|1|epoch|")
    name = await layer.new_channel()
    with pytest.raises(RemoteUnavailable, match="permissions"):
        await layer.group_add("g", name)
    own.command("ACL", "SETUSER", "site", f"&{prefix}|1|group|*")
    await layer.group_add("g", name)
    await layer.group_send("g", {"n": 1})
    assert await receive(layer, name) == 1


async def test_one_connection_listens_for_a_process(own: Server, make_pubsub: Make) -> None:
    layer = make_pubsub(hosts=[own.url])

    def listening() -> int:
        return len(own.command("CLIENT", "LIST", "TYPE", "PUBSUB").splitlines())

    names = [await layer.new_channel(prefix) for prefix in ("a", "b", "c")]
    for number, name in enumerate(names):
        await layer.group_add(f"g{number}", name)
    waiting = [asyncio.create_task(layer.receive(name)) for name in names]
    assert listening() == 1
    await listens_here(layer)
    await wait_until(lambda: listening() == 1, "there is one connection")
    for number in range(3):
        await layer.group_send(f"g{number}", {"n": number})
    assert [(await task)["n"] for task in waiting] == [0, 1, 2]
    await layer.close()
    await wait_until(lambda: listening() == 1, "there is one connection")


async def test_what_expires_while_the_connection_is_made_is_dropped(
    make_pubsub: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is subscribed before it delivers: messages that come meanwhile may have waited for long."""
    layer, other = make_pubsub(expiry=0.5), make_pubsub(expiry=0.5)
    subscribed = threading.Event()

    async def be_slow() -> None:
        subscribed.set()
        await outlive(0.9)  # what is sent meanwhile

    before_keeping(monkeypatch, be_slow)
    making = asyncio.create_task(layer.new_channel())
    await asyncio.to_thread(subscribed.wait, 10)
    part = probe(layer).parts[0]
    await other.send(f"{part}early", {"n": 1})
    name = await making
    await other.send(name, {"n": 2})
    assert await receive(layer, name) == 2
    assert (await layer.statistics())["expired"] == 1
    await assert_silent(layer, f"{part}early")
