"""Workers on one normal channel are killed while messages come: no message is read twice, and few are lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hybrid_layer.remote import PostgresChannelLayer
from tests.remote.tools import Make
from tests.support.loops import Run
from tests.support.process_main import Parent
from tests.support.processes import Process, Spawn
from tests.support.waiting import any_moment, wait_until

WORKERS, SENDERS = 3, 8
HELD = 64
"""The most messages that a worker may hold which it has not handed out."""


async def work(parent: Parent, options: dict[str, Any], journal: str) -> None:
    """Write down each message that is received, in a line of its own, until killed."""
    layer = PostgresChannelLayer(**options)
    file = os.open(journal, os.O_WRONLY | os.O_APPEND)
    parent.ready()
    while True:
        message = await layer.receive("jobs")
        os.write(file, f"{message['n']}\n".encode())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("messages", "kills"),
    [pytest.param(400, 3, marks=pytest.mark.thorough), pytest.param(10_000, 18, marks=pytest.mark.long)],
)
def test_workers_are_killed(
    run: Run,
    make_layer: Make,
    postgres_hosts: list[str],
    prefix: str,
    spawn: Spawn,
    tmp_path: Path,
    messages: int,
    kills: int,
) -> None:
    options: dict[str, Any] = {"hosts": postgres_hosts[:1], "prefix": prefix}
    journal = tmp_path / "journal"
    journal.touch()
    numbers, dice = itertools.count(), random.Random(messages)

    def start() -> Process:
        process: Process = spawn(work, options, str(journal))
        process.ready()
        return process

    def read() -> list[int]:
        return [int(line) for line in journal.read_text().split()]

    workers = [start() for _ in range(WORKERS)]

    async def main() -> None:
        layer = make_layer(hosts=options["hosts"], capacity=messages + 100)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while (number := next(numbers)) < messages:
                await layer.send("jobs", {"n": number})
                sent += 1

        async def kill() -> None:
            for n in range(1, kills + 1):
                await wait_until(lambda n=n: sent >= n * messages / (kills + 1), "that many are sent", 300)
                await any_moment(0.05, dice)
                await asyncio.to_thread(workers.pop(0).kill)
                workers.append(await asyncio.to_thread(start))

        await asyncio.gather(*(send() for _ in range(SENDERS)), kill())

        async def all_are_read() -> bool:
            await layer.send("jobs", {"n": next(numbers)})  # a session whose worker was just killed may take one
            return max(read(), default=0) >= messages

        await wait_until(all_are_read, "a message behind all others is read", 300)
        await layer.close()

    run(main(), seconds=None)
    for worker in workers:
        worker.kill()
    found = Counter(read())
    assert [number for number, count in found.items() if count > 1] == []
    assert messages - sum(number < messages for number in found) <= kills * HELD
