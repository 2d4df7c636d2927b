"""A machine that is busy for minutes, without any fault: nothing is lost, and its reader stays the reader."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hybrid_layer import HybridChannelLayer
from hybrid_layer.remote import RedisChannelLayer
from tests.support.machines import Network
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.waiting import any_moment, turns, until

PROCESSES = 16
MOST_TAKEOVERS = 5
_OWNER = (1 << 31) - 1
"""What of a lease tells the process that has it. The rest changes with each renewal."""


async def be_busy(parent: Parent, options: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """Compute, and count what comes to a group until the parent says that this is all. Then, what was dropped."""
    layer = HybridChannelLayer(**options)
    name = await layer.new_channel()
    await layer.group_add("busy", name)
    counted = 0

    async def count() -> None:
        nonlocal counted
        while True:
            message = await layer.receive(name)
            assert message["n"] == counted
            counted += 1

    async def compute() -> None:
        while True:
            sum(range(100_000))
            await turns()

    work = [asyncio.create_task(count()), asyncio.create_task(compute())]
    parent.ready()
    total: int = await asyncio.to_thread(parent.receive)
    while counted < total and not work[0].done():
        await any_moment(0.1)
    for task in work:
        task.cancel()
    await asyncio.wait(work)
    if not work[0].cancelled():
        work[0].result()  # raises
    statistics = await layer.statistics()
    await layer.close()
    return counted, {key: statistics[key] for key in ("dead", "expired", "full") if statistics[key]}


async def watch_leases(parent: Parent, options: dict[str, Any], seconds: float) -> int:
    """How often another process of the machine has become its reader."""
    layer = HybridChannelLayer(**options)
    core, reader, changes = probe(layer).core, 0, -1
    end = time.monotonic() + seconds
    parent.ready()
    while time.monotonic() < end:
        (lease,) = core.leases(1)
        if lease and lease & _OWNER != reader:
            reader, changes = lease & _OWNER, changes + 1
        await until(time.monotonic() + 0.05)
    await layer.close()
    return changes


async def keep_sending(parent: Parent, options: dict[str, Any], seconds: float) -> int:
    """Another machine."""
    layer = RedisChannelLayer(**{name: options[name] for name in ("hosts", "prefix", "timeout", "capacity")})
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        await layer.group_send("busy", {"n": sent})
        sent += 1
        await any_moment(0.05)
    await layer.close()
    return sent


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("needs_machines")
@pytest.mark.parametrize("seconds", [600.0])
def test_a_busy_machine_keeps_its_reader(seconds: float, prefix: str) -> None:
    with Network() as network:
        server, machine, other = network.server(), network.machine(), network.machine()
        options = {"hosts": [server.url], "prefix": prefix, "locality": "machine", "timeout": 10, "capacity": 20_000}
        busy = [machine.spawn(be_busy, options) for _ in range(PROCESSES)]
        for process in busy:
            process.ready()
        watcher = machine.spawn(watch_leases, options, seconds)
        watcher.ready()
        sender = other.spawn(keep_sending, options, seconds)
        sent = sender.result(seconds + 60)
        assert watcher.result() <= MOST_TAKEOVERS
        for process in busy:
            process.send(sent)
        assert [process.result() for process in busy] == [(sent, {})] * PROCESSES
        assert sent > seconds
