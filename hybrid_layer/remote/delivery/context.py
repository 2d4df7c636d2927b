"""What everything that serves one layer in one process needs to know: data, and no actors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_layer import identity
from hybrid_layer.clock import ServerClock
from hybrid_layer.inbox import Inbox
from hybrid_layer.names import process_of
from hybrid_layer.remote.delivery.epoch import Epoch
from hybrid_layer.remote.delivery.shards import Shard, shard_for
from hybrid_layer.statistics import Statistics, warn
from hybrid_layer.transport import Machine, Settings


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """The options of the remote half that are the same for every store."""

    timeout: float
    """Seconds within which every call ends."""
    block_time: float
    """Seconds for which a read waits on the server, and a subscription for news before it asks."""
    mode: str = "queue"
    """How process-specific channels and groups travel: ``queue`` or ``pubsub``."""
    on_disconnect: bytes | None = None
    """Payload that reports an outage to consumers."""
    on_reconnect: bytes | None = None
    """Payload that reports its end."""


class Context:
    """Of one layer in one process."""

    def __init__(
        self, settings: Settings, options: DeliveryOptions, labels: Sequence[str], machine: Machine | None
    ) -> None:
        self.identity = identity.this_process()
        self.prefix = settings.prefix
        self.policy = settings.policy
        self.options = options
        self.expiry_ms = max(1, int(settings.policy.expiry * 1000))
        # A flush empties every shard, so it is enough for a machine to hear of it from the first.
        self.shards = [
            Shard(
                number,
                label,
                ServerClock(settings.policy.expiry),
                Epoch(machine.meet_flush if machine is not None and number == 0 else None),
            )
            for number, label in enumerate(labels)
        ]
        self.statistics = Statistics()
        self.name = ""
        """``PROCESS`` of this process's channel names; empty until the first of them is made."""
        self.home = self.shards[0]
        """The shard of this process's inboxes."""
        self.inboxes: list[str] = []
        """The names of its inboxes: what Channels calls non-local names."""
        self.inbox = Inbox(self.policy, self.statistics, lambda: self.home.epoch.generation)
        """What was taken in for this process's channels, and who waits for it."""

    def shard_of(self, name: str) -> Shard:
        """The shard that `name`, a channel, a member of a group or an inbox, lies on."""
        return self.shards[shard_for(name, len(self.shards))]

    def adopt(self, inbox: str) -> bool:
        """Note the name of an inbox of this process. False if it is known already."""
        if inbox in self.inboxes:
            return False
        process = process_of(inbox)
        if self.name not in ("", process):
            raise ValueError(f"{inbox!r} is of another process than {self.name!r}")
        self.name = process
        self.home = self.shard_of(inbox)
        self.inboxes = [*self.inboxes, inbox]
        return True

    def is_own(self, channel: str) -> bool:
        """Whether `channel` is a process-specific one of this process."""
        return bool(self.name) and "!" in channel and process_of(channel) == self.name

    def undecodable(self, shard: Shard, what: str) -> None:
        """Count and warn of something on `shard` that cannot be read."""
        self.statistics.count("undecodable")
        warn(
            (what, shard.label),
            f"Dropped {what} on {shard.label} that this release of hybrid_layer cannot read. Processes of one "
            f"prefix must run adjacent releases, and nothing else may write keys with it.",
        )
