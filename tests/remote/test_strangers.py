"""Data of other programs on a server: values of another kind at our keys, unreadable entries and notes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from tests.remote.tools import Make, receiver_is_told
from tests.support.servers import NewServer, Server, free_port
from tests.support.waiting import at_rest, outlive, until, wait_until


async def read(layer: Any, channel: str) -> Any:
    return (await asyncio.wait_for(layer.receive(channel), 20))["n"]


async def test_a_strangers_value_at_a_key_costs_no_other_channel(
    make_layer: Make, new_server: NewServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_server()
    layer = make_layer(hosts=[server.url], block_time=0.2)
    bad = f"{layer.prefix}|1|queue|bad"
    server.command("SET", bad, "x")
    waiting = asyncio.create_task(layer.receive("bad"))
    await wait_until(lambda: "holds a string" in caplog.text, "the log tells of the stranger's value")
    good = asyncio.create_task(read(layer, "good"))
    await at_rest(layer, "good")
    connected = server.command("INFO", "stats")["total_connections_received"]
    await layer.send("good", {"n": 1})
    assert await good == 1
    with pytest.raises(RemoteUnavailable, match="WRONGTYPE"):
        await layer.send("bad", {"n": 2})
    await until(time.monotonic() + 0.5)  # in which no connection is made after another
    assert server.command("INFO", "stats")["total_connections_received"] - connected <= 3
    server.command("DEL", bad)
    await layer.send("bad", {"n": 3})
    assert (await asyncio.wait_for(waiting, 5))["n"] == 3
    assert [record.message for record in caplog.records if bad in record.message and "holds a string" in record.message]


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "KEY", "x"),
        ("HSET", "KEY", "PART", "x"),
        ("HSET", "KEY", "PART", "|x"),
        ("HSET", "KEY", "PART", "1" * 400 + "x"),
    ],
    ids=["string", "no count", "empty count", "long count"],
)
async def test_what_is_kept_of_a_groups_members_is_a_strangers(
    command: tuple[str, ...], make_layer: Make, server: Server
) -> None:
    """A group of so many members is not sorted for each message; an unreadable sorted form is made again."""
    layer = make_layer(capacity=1000)
    names = [await layer.new_channel() for _ in range(40)]
    for name in names:
        await layer.group_add("many", name)
    await layer.group_send("many", {"n": 0})
    assert [await read(layer, name) for name in names] == [0] * 40
    kept = f"{layer.prefix}|1|parts|many"
    assert server.command("TYPE", kept) in (b"hash", "hash")
    if command[0] == "SET":
        server.command("DEL", kept)
    part = names[0].partition("!")[0] + "!"
    server.command(*[{"KEY": kept, "PART": part}.get(word, word) for word in command])
    await layer.group_send("many", {"n": 1})
    assert [await read(layer, name) for name in names] == [1] * 40


NOTES = [b"", b"+|a|b|c|d", b"-|\xff|\xff", b"f|x", b"f|x:y", b"+|g|m|1|x:" + b"9" * 5000, b"?|1"]


async def test_notes_that_cannot_be_read_are_skipped(make_layer: Make, server: Server) -> None:
    layer = make_layer(expiry=1)
    channel = await layer.new_channel()
    process = channel.partition("!")[0].rpartition(".")[2]
    notes = f"{layer.prefix}|1|notes|{process}"
    server.command("RPUSH", notes, *NOTES)
    await wait_until(lambda: not server.command("EXISTS", notes), "the heartbeat has read them")
    waiting = asyncio.create_task(read(layer, channel))
    await at_rest(layer, channel)
    server.command("RPUSH", notes, *NOTES)
    await wait_until(lambda: not server.command("EXISTS", notes), "the reader has read them")
    await outlive(1.1)  # longer than an alive key lives without renewal
    await layer.send(channel, {"n": 1})
    assert await waiting == 1
    assert (await layer.statistics())["dead"] == 0


async def test_a_node_of_a_cluster_is_refused_by_name(
    new_server: NewServer, make_layer: Make, caplog: pytest.LogCaptureFixture
) -> None:
    node = new_server("valkey", cluster_enabled="yes", cluster_port=free_port())
    node.command("CLUSTER", "ADDSLOTS", *range(16384))
    layer = make_layer(hosts=[node.url], timeout=5)
    async with asyncio.timeout(10):
        while True:
            with pytest.raises(RemoteUnavailable) as caught:
                await layer.send("normal", {})
            if "down" not in str(caught.value).lower():  # it takes a moment to accept its slots
                break
    assert "part of a Redis Cluster. Configure it as one: hosts=[{'cluster': [" in str(caught.value)
    await receiver_is_told(layer, "part of a Redis Cluster", caplog)
