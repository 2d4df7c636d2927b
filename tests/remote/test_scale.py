"""What grows with what: a group's cost with its processes, a process's memory with its present consumers."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from typing import Any

import pytest

from hybrid_layer.remote.delivery.shards import shard_for
from tests.remote.tools import Make
from tests.support.loops import Run
from tests.support.servers import NewServer, Server
from tests.support.waiting import cancelled, turns, until

CONSUMERS = int(os.environ.get("CONSUMERS", "2000"))
"""How many consumers start and end; CONSUMERS=100000 takes minutes."""


def calls_of_scripts(server: Server) -> int:
    """How many scripts the server has run by EVALSHA."""
    statistics: dict[str, int] = server.command("INFO", "commandstats").get("cmdstat_evalsha", {"calls": 0})
    return statistics["calls"]


@pytest.mark.thorough
def test_a_group_costs_its_processes(make_layer: Make, run: Run, new_server: NewServer, prefix: str) -> None:
    """10,000 members in 100 processes, on two servers: 100 entries, and one script on the group's server."""
    servers = [new_server(), new_server()]
    sender, *layers = (make_layer(hosts=[server.url for server in servers]) for _ in range(101))

    async def join(layer: Any) -> str:
        channels = [await layer.new_channel() for _ in range(100)]
        await asyncio.gather(*(layer.group_add("g", channel) for channel in channels))
        return channels[-1]

    async def main() -> None:
        lasts = [await join(layer) for layer in layers]
        await sender.group_send("other", {"type": "first"})  # so that the connections are open
        before = [calls_of_scripts(server) for server in servers]
        await sender.group_send("g", {"type": "x"})
        renewals = 10  # that may come in between
        for shard, (server, calls) in enumerate(zip(servers, before, strict=True)):
            is_home = shard == shard_for("g", 2)
            assert is_home <= calls_of_scripts(server) - calls <= is_home + renewals
            inboxes = server.command("KEYS", f"{prefix}|1|inbox|*")
            assert [server.command("LLEN", key) for key in inboxes] == [1] * (100 * is_home)
        assert (await sender.statistics())["sent"] == 10_000
        received = await asyncio.gather(*(layer.receive(last) for layer, last in zip(layers, lasts, strict=True)))
        assert received == [{"type": "x"}] * 100
        await asyncio.gather(*(layer.close() for layer in (sender, *layers)))

    run(main(), seconds=100)


@pytest.mark.thorough
def test_consumers_that_come_and_go_leave_nothing(
    make_layer: Make, run: Run, new_server: NewServer, prefix: str
) -> None:
    """Each joins a group, gets a message, leaves another unread, is cancelled while it waits, and ends."""
    server = new_server()
    layer = make_layer(hosts=[server.url], capacity=100_000)

    async def consumer(number: int) -> None:
        channel = await layer.new_channel()
        await layer.group_add(f"room.{number % 10}", channel)
        await layer.send(channel, {"type": "x"})
        assert await layer.receive(channel) == {"type": "x"}
        waiting = asyncio.create_task(layer.receive(channel))
        await turns()
        await cancelled(waiting)
        await layer.group_discard(f"room.{number % 10}", channel)

    async def come_and_go(first: int, count: int) -> int:
        for number in range(first, first + count, 100):
            await asyncio.gather(*(consumer(number + n) for n in range(100)))
        await until(time.monotonic() + 0.1)  # what ends soon
        gc.collect()
        return len(gc.get_objects())

    async def main() -> None:
        await come_and_go(0, 1000)
        keys, objects = server.command("DBSIZE"), await come_and_go(1000, 500)
        memory = server.command("INFO", "memory")["used_memory"]
        grown = await come_and_go(1500, CONSUMERS) - objects
        assert grown < 500, f"{grown} objects for {CONSUMERS} consumers"
        assert server.command("DBSIZE") <= keys + 2
        assert server.command("INFO", "memory")["used_memory"] - memory < 1_000_000
        await layer.close()

    run(main(), seconds=None)
