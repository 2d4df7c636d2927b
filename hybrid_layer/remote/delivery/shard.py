"""What a process knows of one shard: one server, or its part of a cluster."""

from __future__ import annotations

from collections.abc import Callable

from hybrid_layer.clock import ServerClock
from hybrid_layer.exceptions import RemoteUnavailable
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
