"""A real Redis Cluster on 127.0.0.1: primaries that share the slots evenly, and replicas of some of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tests.support.servers import HOST, Kind, Server, ServerError, free_port, start_server
from tests.support.waiting import block_until

_SECONDS = 20.0
_BUS = 10_000
"""The distance from a node's port to its port for other nodes."""
NODE_TIMEOUT_MS = 500


class Cluster:
    """The nodes: primaries first, then replicas, of which the first is that of the first primary and so on."""

    def __init__(self, nodes: list[Server], primaries: int) -> None:
        self.nodes = nodes
        self.primaries = nodes[:primaries]
        self.replicas = nodes[primaries:]

    def host(self, **options: Any) -> dict[str, Any]:
        """An entry of `hosts`."""
        return {"cluster": [node.url for node in self.nodes[:2]], **options}

    def owner(self, slot: int) -> Server:
        """The node that says that it owns `slot`."""
        return next(node for node in self.nodes if node.running and slot in self.slots_of(node))

    def slots_of(self, node: Server) -> set[int]:
        """What `node` says that it owns."""
        fields = next(
            line.split() for line in text(node.command("CLUSTER", "NODES")).splitlines() if "myself" in line.split()[2]
        )
        if "master" not in fields[2]:
            return set()
        ranges = [part.split("-") for part in fields[8:] if not part.startswith("[")]
        return {slot for part in ranges for slot in range(int(part[0]), int(part[-1]) + 1)}

    def is_whole(self) -> bool:
        """Whether all that run serve, and know one another."""
        running = [node for node in self.nodes if node.running]
        return all(
            "cluster_state:ok" in info(node) and f"cluster_known_nodes:{len(self.nodes)}" in info(node)
            for node in running
        )

    def begin_move(self, slot: int, target: Server) -> Server:
        """Begin to move `slot` to `target`, and return its former owner. Keys move one by one, as all releases can."""
        source = self.owner(slot)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", identity(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", identity(target))
        return source

    def move_keys(self, slot: int, source: Server, target: Server) -> int:
        """Move the keys of a slot that are there, and return their number."""
        keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        if keys:
            source.command("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, source: Server, target: Server) -> None:
        """The keys are there."""
        for node in (target, source, *(each for each in self.primaries if each not in (source, target))):
            if node.running:
                node.command("CLUSTER", "SETSLOT", slot, "NODE", identity(target))

    def move(self, slot: int, target: Server) -> None:
        """Move a whole slot."""
        source = self.begin_move(slot, target)
        self.move_keys(slot, source, target)
        self.end_move(slot, source, target)


def is_in_step(replica: Server) -> bool:
    """Whether a replica has what its primary has."""
    state: bytes = replica.command("ROLE")[3]
    return state == b"connected"


def identity(node: Server) -> str:
    """The id by which the nodes call `node`."""
    return text(node.command("CLUSTER", "MYID"))


def slot_of(tag: str) -> int:
    """The slot of a hash tag."""
    slot: int = key_slot(tag.encode())
    return slot


@contextlib.contextmanager
def cluster_of(kind: Kind, primaries: int = 3, replicas: int = 0, **config: Any) -> Iterator[Cluster]:
    """A cluster that serves, its replicas in step."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(_node(kind, config)) for _ in range(primaries + replicas)]
        cluster = Cluster(nodes, primaries)
        share = -(-REDIS_CLUSTER_HASH_SLOTS // primaries)
        for number, node in enumerate(cluster.primaries):
            slots = range(number * share, min(REDIS_CLUSTER_HASH_SLOTS, (number + 1) * share))
            node.command("CLUSTER", "ADDSLOTS", *slots)
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            nodes[0].command("CLUSTER", "MEET", node.host, node.port)
        names = {identity(primary) for primary in cluster.primaries}
        wait(lambda: all(names <= set(text(each.command("CLUSTER", "NODES")).split()) for each in cluster.replicas))
        for primary, replica in zip(cluster.primaries, cluster.replicas, strict=False):
            replica.command("CLUSTER", "REPLICATE", identity(primary))
        wait(lambda: cluster.is_whole() and all(is_in_step(replica) for replica in cluster.replicas))
        yield cluster


def wait(is_so: Callable[[], bool]) -> None:
    """Until `is_so`."""
    block_until(is_so, "the nodes come to an agreement", _SECONDS)


def info(node: Server) -> str:
    """The answer to CLUSTER INFO, as text."""
    answer = node.command("CLUSTER", "INFO")
    if isinstance(answer, dict):  # so it is with some releases of redis-py
        return "\n".join(f"{name}:{value}" for name, value in answer.items()) + "\n"
    return text(answer).replace("\r", "")


def text(answer: Any) -> str:
    """An answer that is a string, whether redis-py decoded it or not."""
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _node(kind: Kind, config: dict[str, Any]) -> Server:
    for _ in range(100):
        port = free_port()
        if port + _BUS < 65536:
            try:
                return start_server(
                    kind,
                    port=port,
                    cluster_enabled="yes",
                    cluster_node_timeout=NODE_TIMEOUT_MS,
                    cluster_replica_validity_factor=0,
                    repl_diskless_sync_delay=0,
                    **config,
                )
            except ServerError as error:
                if "in use" not in str(error):
                    raise
    raise ServerError(f"no free pair of ports on {HOST}")
