# SPDX-License-Identifier: BSD-3-Clause
"""What a process knows of each shard, which is a server or a part of a cluster; and the shard of each name.

Only `shard_for` decides that, by rendezvous hashing: each shard gets a score per name, and the highest wins. So a host
that is appended to the list takes over only its share of the names. A shard is identified by its place in `hosts`, not
by its address, which may differ between machines. So the order of `hosts` must be the same everywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import partial

from hybrid_layer.clock import ServerClock, boottime
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.names import addressee_of
from hybrid_layer.remote.delivery.epoch import Epoch


class Shard:
    """Data of one shard. The store updates `clock` and `epoch` from each answer."""

    __slots__ = ("clock", "doubted", "epoch", "label", "number", "on_lost")

    def __init__(
        self,
        number: int,
        label: str,
        expiry: float,
        generations: set[int],
        on_flush: Callable[[int, int, int], None] | None,
    ) -> None:
        self.number = number
        """Its place in `hosts`."""
        self.label = label
        """Its name in errors and logs. Contains no password."""
        self.clock = ServerClock(expiry)
        self.epoch = Epoch(generations, None if on_flush is None else partial(on_flush, number))
        self.on_lost: Callable[[], None] = lambda: None
        """Called when a connection broke or the server was replaced: the server may have lost data."""
        self.doubted = -math.inf
        """When it last may have become another server, on `boottime`. What a store learnt before that is void."""

    def doubt(self) -> None:
        """Note that it may be another server by now."""
        self.clock.doubt()
        self.doubted = boottime()

    def unavailable(self, cause: str) -> RemoteUnavailable:
        """The error for this server, with its name and the cause."""
        return RemoteUnavailable(f"The server {self.label} is not available: {cause}")


def shard_for(name: str, shards: int) -> int:
    """The shard of a name. All channels of one process, or machine, have the same shard, so one reader serves them."""
    if shards == 1:
        return 0
    key = addressee_of(name) if "!" in name else name
    return max(range(shards), key=lambda shard: _score(key, shard))


def _score(key: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}|{key}".encode(), digest_size=8).digest()
