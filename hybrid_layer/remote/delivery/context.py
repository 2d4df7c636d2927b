"""What everything that serves one layer in one process needs to know: data, and no actors.

Who the process is, which servers there are, what is known of their clocks and epochs, the policy, the counters, and the
buffers of its channels.
"""

from __future__ import annotations

import math
from typing import Protocol

from hybrid_layer import identity
from hybrid_layer.clock import ServerClock, boottime
from hybrid_layer.inbox import Inbox
from hybrid_layer.names import process_of
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.redis.entries import Entry, Epoch, Note, parse, parse_note
from hybrid_layer.remote.redis.hosts.hosts import Host
from hybrid_layer.remote.redis.keys import Keys
from hybrid_layer.remote.redis.options import RemoteOptions
from hybrid_layer.statistics import Statistics, warn
from hybrid_layer.transport import Machine, Settings

_PROLONG_AFTER = 5 * 3600.0
"""Seconds after which scripts look at the epoch's life again: ``scripts/include/epoch.lua`` relies on six hours."""


class AsksForEpoch(Protocol):
    """A reading connection, as `Context.is_present` needs it."""

    async def make_sure_of_epoch(self, key: str, epoch: Epoch) -> None:
        """Learn of the epoch in `key`."""


class Shard:
    """What a process knows of one shard: a server, or its part of a cluster."""

    __slots__ = ("_prolonged_until", "clock", "epoch", "host", "keys", "number")

    def __init__(self, number: int, host: Host, prefix: str, clock: ServerClock) -> None:
        self.number = number
        self.host = host
        self.keys = Keys(prefix, host.tag)
        self.clock = clock
        self.epoch = Epoch()
        self._prolonged_until = -math.inf
        """Until when no script need look at the life of the epoch's key for this process."""

    def for_scripts(self) -> str:
        """What this process knows of the clock, and a "|" if scripts need not look at the life of the epoch."""
        told = self.clock.for_scripts()
        return f"{told}|" if told and boottime() < self._prolonged_until else told

    def ran(self, told: str, asked: float) -> None:
        """A script that prolongs the epoch ran through. It was given `told`, at `asked` of `boottime`."""
        if not told.endswith("|"):
            self._prolonged_until = asked + _PROLONG_AFTER

    def doubt(self) -> None:
        """It may be on another server by now."""
        self.clock.doubt()
        self._prolonged_until = -math.inf


class Context:
    """Of one layer in one process."""

    def __init__(self, settings: Settings, options: RemoteOptions, machine: Machine | None) -> None:
        self.identity = identity.this_process()
        self.policy = settings.policy
        self.options = options
        self.expiry_ms = max(1, int(settings.policy.expiry * 1000))
        self.shards = [
            Shard(number, host, settings.prefix, ServerClock(settings.policy.expiry))
            for number, host in enumerate(options.hosts)
        ]
        if machine is not None:
            # A flush empties every shard, so it is enough to hear of it from one.
            self.shards[0].epoch = Epoch(machine.meet_flush)
        self.statistics = Statistics()
        self.name = ""
        """``PROCESS`` of this process's channel names; empty until the first of them is made."""
        self.home = self.shards[0]
        """The shard of this process's inboxes."""
        self.parts: list[str] = []
        """Its non-local parts, each of which has an inbox."""
        self.inbox = Inbox(self.policy, self.statistics, lambda: self.home.epoch.generation)

    def shard_of(self, name: str) -> Shard:
        """The shard that `name`, a channel or a member of a group, lies on."""
        return self.shards[shard_for(name, len(self.shards))]

    def adopt(self, part: str) -> bool:
        """Note a non-local part of this process. False if it is known already."""
        if part in self.parts:
            return False
        process = process_of(part)
        if self.name not in ("", process):
            raise ValueError(f"{part!r} is of another process than {self.name!r}")
        self.name = process
        self.home = self.shard_of(part)
        self.parts = [*self.parts, part]
        return True

    def is_own(self, channel: str) -> bool:
        """Whether `channel` is a process-specific one of this process."""
        return bool(self.name) and "!" in channel and process_of(channel) == self.name

    def accept(self, shard: Shard, raw: bytes) -> Entry | None:
        """A popped entry, or None if it is to be dropped."""
        entry = parse(raw)
        if entry is None or shard.epoch.is_absurd(entry.epoch):
            self.undecodable(shard, "an entry")
            return None
        return entry if shard.epoch.admits(entry.epoch) else None

    def accept_own(self, raw: bytes) -> Entry | None:
        """The same for one from the server of this process's inboxes, which must be for channels of this process."""
        entry = self.accept(self.home, raw)
        if entry is not None and not self.is_own(entry.names[0]):
            self.undecodable(self.home, "an entry")
            return None
        return entry

    async def is_present(self, shard: Shard, raw: bytes, pops: AsksForEpoch) -> bool:
        """Whether an entry that `pops` got and `accept` dropped is of the present: the server lost a flush."""
        entry = parse(raw)
        if entry is None or not shard.epoch.is_past(entry.epoch):
            return False
        await pops.make_sure_of_epoch(shard.keys.epoch, shard.epoch)
        return not shard.epoch.is_past(entry.epoch)

    def accept_note(self, shard: Shard, raw: bytes) -> Note | None:
        """What somebody did to a membership of this process, or None if that cannot be."""
        try:
            note = parse_note(raw)
        except ValueError:
            note = None
        if note is None or shard.epoch.is_absurd(note.epoch) or (note.member and not self.is_own(note.member)):
            self.undecodable(shard, "a note")
            return None
        return note

    def undecodable(self, shard: Shard, what: str) -> None:
        """Count and warn of something on `shard` that cannot be read."""
        self.statistics.count("undecodable")
        warn(
            (what, shard.host.label),
            f"Dropped {what} on {shard.host.label} that this release of hybrid_layer cannot read. Processes of one "
            f"prefix must run adjacent releases, and nothing else may write keys with it.",
        )
