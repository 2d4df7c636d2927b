# SPDX-License-Identifier: BSD-3-Clause
"""What every part of one layer in one process needs to know: data, and no actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from hybrid_layer import identity
from hybrid_layer.clock import monotonic
from hybrid_layer.inbox import Inbox
from hybrid_layer.loops import LoopLocal
from hybrid_layer.names import process_of
from hybrid_layer.policy import Policy
from hybrid_layer.remote.delivery.counting import ChannelCounts, Ledger, MachineStatistics
from hybrid_layer.remote.delivery.shards import Shard, shard_for
from hybrid_layer.remote.runtime.calls import LoopState
from hybrid_layer.statistics import Statistics, warn
from hybrid_layer.transport import Machine


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """The options of the remote half that every store has."""

    timeout: float
    """Seconds within which every call ends."""
    block_time: float
    """Seconds that a read waits on the server, and that a subscription may be silent before the server is asked."""
    mode: str = "queue"
    """How process-specific channels and groups travel: ``queue`` or ``pubsub``."""
    on_disconnect: bytes | None = None
    """Payload that reports an outage to consumers; None for no report."""
    on_reconnect: bytes | None = None
    """Payload that reports the end of an outage; None for no report."""


class Context:
    """The data of one layer in one process."""

    def __init__(
        self, policy: Policy, options: DeliveryOptions, labels: Sequence[str], machine: Machine | None
    ) -> None:
        self.identity = identity.this_process()
        self.prefix = policy.prefix
        self.policy = policy
        self.options = options
        self.expiry_ms = max(1, int(policy.expiry * 1000))
        generations: set[int] = set()
        self.shards = [
            Shard(number, label, policy.expiry, generations, None if machine is None else machine.meet_flush)
            for number, label in enumerate(labels)
        ]
        self.loops = LoopLocal(LoopState, LoopState.abort)
        self.shard_of: Callable[[str], Shard] = lru_cache(maxsize=16384)(
            lambda name: self.shards[shard_for(name, len(self.shards))]
        )
        """The shard of a name: of a channel, a member of a group or an inbox."""
        self.statistics = Statistics() if machine is None else MachineStatistics(machine)
        self.channel_counts = ChannelCounts()
        self.reporter = identity.random_id()
        """What the servers know this process's reports by."""
        self.ledgers = [Ledger(self.reporter, partial(self._counted, shard.number)) for shard in self.shards]
        """What each server was told of what was counted."""
        self.name = ""
        """``PROCESS`` in this process's channel names; empty until the first is made."""
        self.home = self.shards[0]
        """The shard of this process's inboxes."""
        self.inboxes: list[str] = []
        """The names of its inboxes, which Channels calls non-local names."""
        self.inbox = Inbox(self.policy, self.statistics, lambda: generations)
        """The messages taken in for this process's channels, and the waiting coroutines."""

    def _counted(self, shard: int) -> dict[str, int]:
        """What a server is to know: of the channels that are there; and of all, by one server."""
        found = self.channel_counts.fields(lambda channel: self.shard_of(channel).number == shard)
        is_the_one = shard_for(self.reporter, len(self.shards)) == shard
        if is_the_one and not isinstance(self.statistics, MachineStatistics):
            found.update(self.statistics.as_dict())
        return found

    def adopt(self, inbox: str) -> bool:
        """Note the name of an inbox of this process. False if it is known already.

        Raises `ValueError` if it is of another process.
        """
        if inbox in self.inboxes:
            return False
        process = process_of(inbox)
        if self.name not in ("", process):
            raise ValueError(f"{inbox!r} belongs to another process than {self.name!r}")
        self.name = process
        self.home = self.shard_of(inbox)
        self.inboxes = [*self.inboxes, inbox]
        return True

    def is_own(self, channel: str) -> bool:
        """Whether `channel` is a process-specific channel of this process."""
        return bool(self.name) and "!" in channel and process_of(channel) == self.name

    def report(self, channels: Sequence[str], payload: bytes, life: float) -> None:
        """Give a message to channels of this process, beside their inboxes. It expires in `life` seconds."""
        self.inbox.deliver(channels, payload, monotonic() + life, self.home.epoch.generation)

    def is_waited_on(self, channel: str) -> bool:
        """Whether a coroutine of this process waits on `channel`."""
        return self.inbox.is_waited_on(channel)

    def undecodable(self, shard: Shard, what: str) -> None:
        """Count `what`, which was read from `shard` and cannot be understood, and warn of it."""
        self.statistics.count("undecodable")
        warn(
            (what, shard.label),
            f"Dropped {what} on {shard.label} that this release of hybrid_layer cannot read. Processes with one prefix "
            f"must run adjacent releases, and no other program may write keys with that prefix.",
        )
