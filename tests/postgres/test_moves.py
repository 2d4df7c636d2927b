"""What is read moves between event loops, and no message is lost, repeated or overtaken."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from typing import Any

import pytest

from hybrid_layer.remote import PostgresChannelLayer
from hybrid_layer.remote.delivery.shards import shard_for
from tests.remote.tools import listens_here
from tests.support.loops import Run
from tests.support.waiting import cancelled, wait_until

GROUPS = [next(name for n in range(100) if shard_for(name := f"g{n}", 3) == shard) for shard in range(3)]
"""A group in each database."""


class Receiver:
    """A layer with a channel that is in each group, and what has come there."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.name = ""
        self.got: dict[str, list[int]] = defaultdict(list)

    async def join(self) -> None:
        self.name = await self.layer.new_channel()
        for group in GROUPS:
            await self.layer.group_add(group, self.name)

    async def receive(self) -> None:
        while True:
            message = await self.layer.receive(self.name)
            self.got[message["to"]].append(message["n"])


@pytest.mark.parametrize("remote", ["queue", "pubsub"])
def test_every_message_once_and_in_order_while_the_reading_moves(
    postgres_hosts: list[str], prefix: str, remote: str, run: Run
) -> None:
    options: dict[str, Any] = {"hosts": postgres_hosts, "prefix": prefix, "remote": remote, "capacity": 100_000}
    receiver, other = Receiver(PostgresChannelLayer(**options)), PostgresChannelLayer(**options)
    run(receiver.join())
    sent: dict[str, int] = defaultdict(int)
    is_over = threading.Event()

    def numbered(to: str) -> dict[str, Any]:
        sent[to] += 1
        return {"type": "x", "to": to, "n": sent[to]}

    async def send() -> None:
        while not is_over.is_set():
            to_groups = (other.group_send(group, numbered(group)) for group in GROUPS)
            await asyncio.gather(other.send(receiver.name, numbered("it")), *to_groups)

    async def receive_here(close: bool) -> None:
        receiving = asyncio.create_task(receiver.receive())
        await listens_here(receiver.layer)
        before = len(receiver.got["it"])
        await wait_until(lambda: len(receiver.got["it"]) > before + 5, "messages come")
        if close:
            await cancelled(receiving)
            await receiver.layer.close()

    async def receive_the_rest() -> None:
        receiving = asyncio.create_task(receiver.receive())
        await wait_until(lambda: all(len(receiver.got[to]) >= n for to, n in sent.items()), "all has come")
        assert receiver.got == {to: list(range(1, n + 1)) for to, n in sent.items()}
        await cancelled(receiving)
        await receiver.layer.close()

    thread = threading.Thread(target=lambda: asyncio.run(send()))
    thread.start()
    try:
        for turn in range(4):
            run(receive_here(close=turn % 2 == 0))
    finally:
        is_over.set()
        thread.join()
    run(receive_the_rest())
