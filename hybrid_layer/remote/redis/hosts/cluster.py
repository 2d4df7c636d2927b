# SPDX-License-Identifier: BSD-3-Clause
"""A Redis Cluster as hosts: a number of hash tags, each of which leads to the node that owns its slot now.

All keys of such a host share its tag, so to the rest of the code it is one server. If the owner of a slot is not known,
any node is asked. A refusal (MOVED) names the owner, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ConnectionError, MovedError, RedisError

from hybrid_layer.loops import call_in
from hybrid_layer.remote.redis.server.errors import FINAL, WrongServer, unwrapped
from hybrid_layer.remote.redis.server.handshake import ask
from hybrid_layer.remote.redis.server.host import AnyConnection, Host
from hybrid_layer.remote.redis.server.replies import OddReply
from hybrid_layer.remote.redis.server.server import SWITCH_AFTER, Server
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.timers import time_limit

QUESTION = ("CLUSTER", "SLOTS")
_ANSWER = 1.0
"""Seconds that a node has to say which node owns which slots."""


class Cluster:
    """What is known of one cluster. Any loop and thread may use it."""

    def __init__(self, seeds: Sequence[Server]) -> None:
        self.label = ", ".join(seed.label for seed in seeds)
        self._options = seeds[0]
        self._seeds = tuple(self._node(*seed.address) for seed in seeds)
        self._slots: tuple[int, ...] = ()
        self.owners: dict[int, Server] = {}
        """The primaries of the slots, as far as known. One object per node, so that connections are shared."""
        self._order = self._seeds
        """The nodes, in the order in which they are asked."""
        self._question: tuple[io_thread.IOThread, Future[None]] | None = None
        """The last question to the nodes, and the thread that asks it."""

    def shards(self, count: int) -> tuple[VirtualShard, ...]:
        """The cluster as `count` hosts."""
        found = tuple(VirtualShard(self, tag, self._options.read_timeout) for tag in hash_tags(count))
        self._slots = tuple(shard.slot for shard in found)
        return found

    async def owner(self, slot: int) -> Server:
        """The node that owns `slot`. Raises `RedisError` if no node answers that."""
        if slot not in self.owners:
            loop, answered, question = asyncio.get_running_loop(), asyncio.Event(), self._asked()
            question.add_done_callback(lambda done: call_in(loop, answered.set))
            await answered.wait()
            question.result()
        owner = self.owners.get(slot)
        if owner is None:
            raise ConnectionError(f"no node owns slot {slot}")
        return owner

    def invalidate(self, slot: int, cause: object) -> None:
        """Note that the owner of `slot` does not serve it."""
        refusal = unwrapped(cause) if isinstance(cause, Exception) else None
        owner = self.owners.pop(slot, None)
        if isinstance(refusal, MovedError) and owner is not None:
            self.owners[slot] = self._at(refusal.host or owner.address[0], refusal.port)

    def _asked(self) -> Future[None]:
        """One question for all callers, of any loop. The I/O thread asks it, whose loop outlives theirs."""
        thread = io_thread.current()  # a forked child has another one
        if self._question is None or self._question[0] is not thread or self._question[1].done():
            self._question = thread, thread.submit(self._learn)
        return self._question[1]

    async def _learn(self) -> None:
        complaints = []
        for node in self._order:
            # Nodes lag behind one another, so the next question is for another node.
            self._order = (*(each for each in self._order if each is not node), node)
            try:
                async with time_limit(_ANSWER):
                    reply = await ask(node, QUESTION)
                if isinstance(reply, list):
                    try:
                        return self._note(reply, node)
                    except (TypeError, AttributeError, LookupError, ValueError):
                        raise OddReply("CLUSTER SLOTS", reply) from None
                if "cluster support disabled" in str(reply):
                    raise WrongServer("it is not a node of a cluster. Leave 'cluster' out: hosts=['redis://...'].")
                complaints.append(f"{_address(node)}: {reply}")
            except FINAL:
                raise
            except (RedisError, OSError, TimeoutError) as error:
                complaints.append(f"{_address(node)}: {str(error) or 'no answer in time'}")
        raise ConnectionError(f"no node says which node owns which slot. {'; '.join(complaints)}")

    def _note(self, reply: list[Any], asked: Server) -> None:
        """Take in the answer to `QUESTION`: first slot, last slot, primary, replicas. A node is host, port, ..."""
        owners: dict[int, Server] = {}
        known: dict[tuple[str, int], Server] = {}
        for first, last, *places in reply:
            # Without a host, it is the node that was asked.
            nodes = [self._at((place[0] or b"").decode() or asked.address[0], int(place[1])) for place in places]
            owners.update({slot: nodes[0] for slot in self._slots if first <= slot <= last})
            known.update({node.address: node for node in nodes})
        self.owners = owners
        rest = (*known.values(), *(seed for seed in self._seeds if seed.address not in known))
        self._order = (*(node for node in rest if node.address != asked.address), self._at(*asked.address))

    def _at(self, host: str, port: int) -> Server:
        """The node at an address."""
        known = next((node for node in self._order if node.address == (host, port)), None)
        if known is None:
            known = self._node(host, port)
            self._order = (known, *self._order)
        return known

    def _node(self, host: str, port: int) -> Server:
        node = self._options.at(host, port)
        return replace(node, label=f"{node.label} (cluster {self.label})", switch_after=SWITCH_AFTER)


class VirtualShard(Host):
    """A host: the part of a cluster that one hash tag stands for."""

    switch_after = SWITCH_AFTER

    def __init__(self, cluster: Cluster, tag: str, read_timeout: float | None) -> None:
        self.tag = tag
        self.slot = key_slot(tag.encode())
        self.read_timeout = read_timeout
        self._cluster = cluster

    @property
    def label(self) -> str:  # type: ignore[override]  # the owner's, which changes
        owner = self._cluster.owners.get(self.slot)
        return f"for slot {self.slot} of the cluster {self._cluster.label}" if owner is None else owner.label

    async def endpoint(self) -> Server:
        return await self._cluster.owner(self.slot)

    async def connection(self) -> AnyConnection:
        return (await self.endpoint()).new_connection()

    def invalidate(self, cause: object = None) -> None:
        self._cluster.invalidate(self.slot, cause)


def hash_tags(count: int) -> list[str]:
    """`count` tags, one for each of `count` equal parts of the slots: see `docs/wire_format.rst`.

    A node owns adjacent slots, so each node has its share of the tags.
    """
    tags: dict[int, str] = {}
    number = 0
    while len(tags) < count:
        part = key_slot(str(number).encode()) * count // REDIS_CLUSTER_HASH_SLOTS
        tags.setdefault(part, str(number))
        number += 1
    return [tags[part] for part in range(count)]


def _address(node: Server) -> str:
    return "{}:{}".format(*node.address)
