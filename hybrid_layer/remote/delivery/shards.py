"""What a process knows of each shard, a server or a part of a cluster; and which shard a name lies on.

There is one function for that. Rendezvous hashing: each shard gets a score per name, the highest wins, so that a host
appended to the list takes over only its share of the names. A shard is known by its place in `hosts`, not by its
address, since one server may have another address on each machine; so the order of `hosts` must be the same everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

from hybrid_layer.clock import ServerClock
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.names import is_process_specific, process_of
from hybrid_layer.remote.delivery.epoch import Epoch


class Shard:
    """Data. The store updates `clock` and `epoch` by what each answer tells of them."""

    __slots__ = ("clock", "doubts", "epoch", "label", "number", "on_lost")

    def __init__(self, number: int, label: str, clock: ServerClock, epoch: Epoch) -> None:
        self.number = number
        """Its place in `hosts`."""
        self.label = label
        """What errors and logs call it. Contains no password."""
        self.clock = clock
        self.epoch = epoch
        self.on_lost: Callable[[], None] = lambda: None
        """Called when a connection broke, or the server was replaced: it may lack what it was told."""
        self.doubts = 0
        """How often it may have become another server. What a store learnt of the server ends with that."""

    def doubt(self) -> None:
        """It may be on another server by now."""
        self.clock.doubt()
        self.doubts += 1

    def unavailable(self, cause: str) -> RemoteUnavailable:
        """The error for this server, by name and cause."""
        return RemoteUnavailable(f"The server {self.label} is not available: {cause}")


@lru_cache(maxsize=16384)
def shard_for(name: str, shards: int) -> int:
    """The shard of a channel: of a process-specific one by its process, so that one reader serves all its channels."""
    if shards == 1:
        return 0
    key = process_of(name) if is_process_specific(name) else name
    return max(range(shards), key=lambda shard: _score(key, shard))


def _score(key: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}|{key}".encode(), digest_size=8).digest()
