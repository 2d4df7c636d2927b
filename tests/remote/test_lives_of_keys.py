"""Every key on a server expires, and the epoch not before the messages that carry it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hybrid_layer.remote import RedisChannelLayer
from tests.remote.tools import WAYS, Make, recovered
from tests.support.probe import trust_in_the_epoch
from tests.support.servers import Server
from tests.support.waiting import wait_until

DAY = 86_400_000


def lives(server: Server, prefix: str) -> dict[str, int]:
    """How many ms each key has left; -1 for ever."""
    keys = server.command("KEYS", f"{prefix}|*")
    return {key.decode().removeprefix(f"{prefix}|1|"): server.command("PTTL", key) for key in keys}


@pytest.mark.parametrize("way", ["queue", "pubsub", "hybrid"])
async def test_no_key_stays_for_ever(way: str, make: Make, prefix: str, server: Server) -> None:
    layer, other = (make(WAYS[way]) for _ in range(2))
    own, theirs = await layer.new_channel(), await other.new_channel()
    for channel in (own, theirs, "jobs"):
        await layer.send(channel, {"n": 1})
        await layer.group_add("g", channel)
    await layer.group_discard("g", theirs)
    await layer.group_send("g", {"n": 2})
    for channel in (own, "jobs"):
        waiting = asyncio.create_task(layer.receive(channel))
        await waiting
    assert min(lives(server, prefix).values()) > 0
    await layer.flush()
    found = lives(server, prefix)
    assert min(found.values()) > 0
    assert "epoch|" in found


async def test_the_epoch_outlives_what_carries_it(make_layer: Make, prefix: str, server: Server) -> None:
    soon, late = (make_layer(expiry=expiry) for expiry in (1, 7 * 86_400))
    epoch = f"{prefix}|1|epoch|"
    await soon.send("jobs", {"n": 1})
    assert DAY < server.command("PTTL", epoch) <= 2 * DAY + 10_000
    await late.send("jobs", {"n": 2})
    assert lives(server, prefix)["epoch|"] > lives(server, prefix)["queue|jobs"]
    left = server.command("PTTL", epoch)
    await soon.send("jobs", {"n": 3})
    await soon.flush()
    assert server.command("PTTL", epoch) > left - 60_000  # never shortened
    before = server.command("GET", epoch)
    uses: list[Callable[[RedisChannelLayer], Any]] = [
        lambda layer: layer.send("jobs", {"n": 4}),
        lambda layer: layer.group_add("g", "jobs"),
        lambda layer: layer.group_send("g", {"n": 5}),
        lambda layer: layer.flush(),
    ]
    for use in uses:
        for life in ("PERSIST", "PEXPIRE"):  # as earlier releases left it, and about to expire
            server.command(life, epoch, *([60_000] if life == "PEXPIRE" else []))
            await use(make_layer(expiry=1))
            assert server.command("PTTL", epoch) > DAY
    assert server.command("GET", epoch).partition(b":")[0] == before.partition(b":")[0]


async def test_a_queue_lives_as_long_as_its_own_messages(make_layer: Make, prefix: str, server: Server) -> None:
    """So what nobody reads is not kept for long, such as the answer of a member whose asker is gone."""
    late = make_layer(expiry=7 * 86_400)
    await late.send("jobs", {"n": 1}, expiry=2)
    found = lives(server, prefix)
    assert DAY / 24 < found["queue|jobs"] < DAY / 12
    assert found["epoch|"] > 14 * DAY
    await late.send("jobs", {"n": 2})
    await late.send("jobs", {"n": 3}, expiry=2)
    assert lives(server, prefix)["queue|jobs"] > 14 * DAY, "never shortened"


async def test_who_sends_for_long_looks_after_the_epoch_again(
    make_layer: Make, prefix: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, late = (make_layer(expiry=expiry) for expiry in (1, 7 * 86_400))
    epoch = f"{prefix}|1|epoch|"
    sends: list[Callable[[RedisChannelLayer], Any]] = [
        lambda layer: layer.send("jobs", {"n": 1}),
        lambda layer: layer.group_send("g", {"n": 2}),
    ]

    async def leaves_it(send: Callable[[RedisChannelLayer], Any]) -> bool:
        server.command("PEXPIRE", epoch, 60_000)
        await send(layer)
        return bool(server.command("PTTL", epoch) <= 60_000)

    await layer.group_add("g", "jobs")
    await late.send("jobs", {"n": 0})
    for send in sends:
        for _ in range(2):
            await send(layer)
        await wait_until(partial(leaves_it, send), "it has just looked")  # a heartbeat may prolong it just then
        await send(late)
        assert server.command("PTTL", epoch) > 14 * DAY  # what lives for long does not rely on that
        server.command("PEXPIRE", epoch, 60_000)
        with monkeypatch.context() as patch:
            assert trust_in_the_epoch(patch, 0) == 5 * 3600  # what the scripts rely on is six hours
            await send(layer)
        assert server.command("PTTL", epoch) > DAY
    server.command("PEXPIRE", epoch, 60_000)
    server.command("CLIENT", "KILL", "TYPE", "normal")

    async def is_renewed() -> bool:
        await recovered(lambda: layer.send("jobs", {"n": 3}))
        return bool(server.command("PTTL", epoch) > 60_000)

    await wait_until(is_renewed, "a sender has looked again, as it may be another server")


async def test_a_living_process_keeps_the_epoch(make_layer: Make, prefix: str, server: Server) -> None:
    layer = make_layer(expiry=1)
    epoch = f"{prefix}|1|epoch|"
    await layer.new_channel()
    server.command("PEXPIRE", epoch, 60_000)
    await wait_until(lambda: server.command("PTTL", epoch) > 60_000, "it is renewed, each third of a second")
