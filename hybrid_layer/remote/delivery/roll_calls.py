# SPDX-License-Identifier: BSD-3-Clause
"""Who is in a group? The server knows some of the members. The others are known to machines and subscribed processes.

A roll call is an entry for the group, in whose place among the messages it is answered. Each answer is a message in a
queue of its own on the group's server, and the server has said how many were asked.
"""

from __future__ import annotations

import asyncio

from hybrid_layer.envelope import roll_call
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.identity import random_id
from hybrid_layer.remote.delivery.answers import read_answer
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.delivery import Delivery
from hybrid_layer.remote.delivery.queue_reader import QueueReader
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.timers import time_limit
from hybrid_layer.transport import Machine

_AT_ONCE = 500
_TRIES = 2
"""A process whose subscription moves to another loop at that moment hears it twice, and answers once."""


class RollCalls:
    """Asks for one layer in one process. Without a local half, `machine` is None."""

    def __init__(self, context: Context, store: Store, delivery: Delivery, machine: Machine | None) -> None:
        self._context = context
        self._store = store
        self._delivery = delivery
        self._machine = machine

    async def channels(self, group: str, ends: bool) -> list[str]:
        """The members of `group`; with `ends`, their memberships end.

        Raises `RemoteUnavailable` with those that are known if the others were not told in time.
        """
        shard, here = self._context.shard_of(group), ""
        found: set[str] = set()
        try:
            if self._machine is not None:
                here = await self._machine.id()
                found.update(await self._machine.group_channels(group, ends))
            named = await self._store.group_channels(shard, group)
            known = [name for name in named if not name.startswith("@")]
            found.update(known)
            if ends:
                for begin in range(0, len(known), _AT_ONCE):
                    step = known[begin : begin + _AT_ONCE]
                    await asyncio.gather(*(self._delivery.group_discard(group, channel) for channel in step))
            others = {name for name in named if name.startswith("@")} - {f"@{here}!"}
            if others or self._context.options.mode == "pubsub":
                timeout = self._context.options.timeout
                # In the thread, since the reader's connection must not belong to a loop that is about to end.
                await io_thread.current().run(lambda: self._ask(shard, group, here, ends, found), timeout)
        except RemoteUnavailable as error:
            error.partial = list(found)
            raise
        return list(found)

    async def _ask(self, shard: Shard, group: str, skip: str, ends: bool, found: set[str]) -> None:
        reader = QueueReader(self._context, self._store, shard)
        patience = self._context.options.timeout / _TRIES
        asked = answered = 0
        try:
            for _ in range(_TRIES):
                try:
                    async with time_limit(patience):
                        reply_to, answered = f"?{random_id()}", 0
                        asked = await self._store.ask(shard, group, roll_call(reply_to, ends), skip, patience)
                        while answered < asked:
                            if self._take(shard, await reader.receive(reply_to), found):
                                answered += 1
                        return
                except TimeoutError:
                    pass
        finally:
            await reader.close()
        raise RemoteUnavailable(
            f"{asked - answered} of {asked} processes and machines on {shard.label} did not say in time which of their "
            f"channels are in group {group}. The attribute partial has what is known."
        )

    def _take(self, shard: Shard, answer: bytes, found: set[str]) -> bool:
        names = read_answer(answer)
        if names is None:
            self._context.undecodable(shard, "an answer")
            return False
        found.update(names)
        return True
