"""Sessions that break, servers that end and begin again, many at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from hybrid_layer.exceptions import ChannelFull, RemoteUnavailable
from hybrid_layer.remote import PostgresChannelLayer
from tests.support.postgres import PostgresServer
from tests.support.waiting import any_moment, at_rest, cancelled, wait_until

NewPostgres = Callable[..., PostgresServer]
END_ALL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'hybrid_layer'"


async def sent_at_last(layer: Any, channel: str, message: dict[str, Any]) -> None:
    """Send a message as soon as that works."""

    async def sends() -> bool:
        try:
            await layer.send(channel, message)
        except RemoteUnavailable:
            return False
        return True

    await wait_until(sends, "a message is sent", 30)


@pytest.mark.parametrize("remote", ["queue", "pubsub"])
@pytest.mark.parametrize("how", ["sessions end", "crash"])
async def test_receivers_outlive_it(new_postgres_server: NewPostgres, prefix: str, remote: str, how: str) -> None:
    server = new_postgres_server()
    options: dict[str, Any] = {"hosts": [server.url], "prefix": prefix, "remote": remote}
    layer = PostgresChannelLayer(**options, on_disconnect="layer.lost", on_reconnect="layer.back")
    other = PostgresChannelLayer(**options)
    name = await layer.new_channel()
    await layer.group_add("g", name)
    normal = asyncio.create_task(layer.receive("jobs"))
    own = asyncio.create_task(layer.receive(name))
    await at_rest(layer, "jobs", name)
    await other.send("others", {"n": 0})
    if how == "crash":
        server.crash()
        server.restart()
    else:
        server.command(END_ALL)
    await sent_at_last(other, "jobs", {"n": 1})
    assert await normal == {"n": 1}
    assert [await own, await layer.receive(name)] == [{"type": "layer.lost"}, {"type": "layer.back"}]
    await other.group_send("g", {"n": 2})
    assert await layer.receive(name) == {"n": 2}
    if how == "sessions end":
        assert await layer.receive("others") == {"n": 0}
    await layer.close()
    await other.close()


async def test_bells_are_never_missed(postgres_hosts: list[str], prefix: str) -> None:
    """A reader looks by itself once in the block time only: what it does not hear of would come late."""
    options: dict[str, Any] = {"hosts": postgres_hosts[:1], "prefix": prefix, "block_time": 60}
    layers = [PostgresChannelLayer(**options) for _ in range(3)]
    names = [await layer.new_channel() for layer in layers]
    got: list[int] = []

    async def receive(layer: Any, channel: str) -> None:
        while True:
            got.append((await layer.receive(channel))["n"])

    receiving = [
        asyncio.create_task(receive(layer, channel))
        for layer, name in zip(layers, names, strict=True)
        for channel in ("jobs", name)
    ]
    began = time.monotonic()
    for n in range(100):
        await layers[n % 3].send(["jobs", names[0], names[1], names[2]][n % 4], {"n": n})
        await any_moment(0.006)
    await wait_until(lambda: len(got) == 100, "all has come")
    assert sorted(got) == list(range(100))
    assert time.monotonic() - began < 30
    await cancelled(*receiving)
    for layer in layers:
        await layer.close()


async def test_capacity_is_exact_however_many_send(postgres_hosts: list[str], prefix: str) -> None:
    options: dict[str, Any] = {"hosts": postgres_hosts[:1], "prefix": prefix, "capacity": 10}
    layers = [PostgresChannelLayer(**options) for _ in range(4)]
    sends = (layer.send("jobs", {"n": n}) for n in range(20) for layer in layers)
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert sum(isinstance(result, ChannelFull) for result in results) == 70
    assert results.count(None) == 10
    for _ in range(10):
        await layers[0].receive("jobs")
    for layer in layers:
        await layer.close()


async def test_sweep_removes_what_expired_long_ago(postgres_server: PostgresServer, database: str, prefix: str) -> None:
    layer = PostgresChannelLayer(hosts=[postgres_server.url_of(database)], prefix=prefix)
    await layer.send("jobs", {"n": 1})
    await layer.send("jobs", {"n": 2})
    count = "SELECT count(*) FROM hybrid_layer_1.message"
    postgres_server.command("UPDATE hybrid_layer_1.message SET until_ms = 1 WHERE id % 2 = 0", database=database)
    postgres_server.command("SELECT hybrid_layer_1.sweep()", database=database)
    assert postgres_server.value(count, database=database) == 1
    await layer.flush()
    assert postgres_server.value(count, database=database) == 0
    await layer.close()
