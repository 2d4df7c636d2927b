"""Several processes that send at once into a segment that has to grow: each growth is an operation that starts over."""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid_layer.ipc import IPCChannelLayer
from tests.support.process_main import Parent
from tests.support.processes import Spawn

SENDERS = 3
MESSAGES = 3000
SIZE = 1500


async def fill(parent: Parent, prefix: str, me: int) -> None:
    layer = IPCChannelLayer(prefix=prefix, capacity=SENDERS * MESSAGES)
    parent.ready()
    parent.receive()
    for n in range(MESSAGES):
        await layer.send("channel", {"sender": me, "n": n, "body": "x" * SIZE})


def test_senders_while_the_segment_grows(spawn: Spawn, prefix: str) -> None:
    senders = [spawn(fill, prefix, me) for me in range(SENDERS)]
    for sender in senders:
        sender.ready()
    for sender in senders:
        sender.send("go")
    for sender in senders:
        assert sender.result() is None
    layer = IPCChannelLayer(prefix=prefix, capacity=SENDERS * MESSAGES)
    seen: dict[int, list[int]] = {me: [] for me in range(SENDERS)}

    async def receive_all() -> Any:
        for _ in range(SENDERS * MESSAGES):
            message = await layer.receive("channel")
            seen[message["sender"]].append(message["n"])
        counters = await layer.statistics()
        await layer.flush()
        return counters

    assert asyncio.run(receive_all())["damaged"] == 0
    assert all(numbers == list(range(MESSAGES)) for numbers in seen.values())
