"""Keeps a process known to the servers: its alive keys, and the memberships of its channels.

Lives in the I/O thread, so that it works while the process's own event loops are busy or gone. When a server has lost
what it knew (a restart, a failover, a stop longer than the alive key's life), the keeper puts it back from its own
record.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from functools import partial

from hybrid_layer import identity
from hybrid_layer.clock import boottime, monotonic, seconds
from hybrid_layer.exceptions import HybridLayerError, RemoteUnavailable
from hybrid_layer.names import process_of
from hybrid_layer.remote.delivery.context import Context, Shard
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.entries import Note
from hybrid_layer.remote.redis.server import replies
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.statistics import warn
from hybrid_layer.timers import sleep
from hybrid_layer.transport import Machine

_LEAST_LIFE = 1.0
"""Seconds that an alive key lives, even if messages expire sooner."""
_BACKOFF = (0.05, 0.5)
"""First and last pause between two tries with a server that does not answer, in seconds."""
_LONGEST = 1e9
"""Seconds that a membership may last by a note. Servers refuse to keep a key for ever so long."""
_AT_ONCE = 200
"""Memberships that are put back in one pipeline."""


@dataclass(frozen=True, slots=True)
class _Membership:
    shard: int
    deadline: float
    generation: int


class Keeper(ResidentTask):
    """One per process and layer."""

    _what = "the keeper"

    def __init__(self, context: Context, connections: Connections, machine: Machine | None) -> None:
        self._life = max(float(context.policy.expiry), _LEAST_LIFE)
        super().__init__(context.statistics.count, last_pause=self._life / 3)
        self._context = context
        self._connections = connections
        self._machine = machine
        self._own_name = identity.random_id()
        self._lock = threading.Lock()
        self._memberships: dict[tuple[str, str], _Membership] = {}
        self._lost: set[int] = set()
        """Shards that may lack what this process told them."""
        self._set_clocks: set[int] = set()
        """Shards whose clock was set since the memberships there were put right."""
        self._known: set[int] = set()
        """Shards that were told of this process."""
        for shard in context.shards:
            shard.clock.on_set = partial(self.clock_set, shard.number)

    # What the layer calls, in any loop and thread

    async def open(self) -> None:
        """Make the process known on the shard of its inboxes, and keep it so."""
        await io_thread.current().run(self.renew_home, self._context.options.timeout)
        self.settle()

    async def renew_home(self) -> None:
        """Renew the alive key there, and learn of the clock and the epoch."""
        await self._renew(self._context.home, self._context.name)

    async def open_machine(self, member: str) -> None:
        """Make the machine known, of which `member` is a channel."""
        context = self._context
        shard = context.shard_of(member)
        await io_thread.current().run(lambda: self._renew(shard, process_of(member)), context.options.timeout)
        self.settle()

    def remember(self, group: str, member: str, shard: int) -> None:
        """`member` was made one of `group`; put that back when the server forgets it."""
        generation = self._context.shards[shard].epoch.generation
        deadline = monotonic() + self._context.policy.group_expiry
        with self._lock:
            self._memberships[group, member] = _Membership(shard, deadline, generation)
        self.settle()

    def forget(self, group: str, member: str) -> None:
        """The membership ended."""
        with self._lock:
            self._memberships.pop((group, member), None)

    def forget_all(self, shard: int) -> None:
        """All memberships on a server end."""
        with self._lock:
            for key in [key for key, membership in self._memberships.items() if membership.shard == shard]:
                del self._memberships[key]

    def connection_lost(self, shard: int) -> None:
        """A connection broke, so the server may have lost its data."""
        self._lost.add(shard)
        self._context.shards[shard].doubt()
        self.look_now()

    def clock_set(self, shard: int) -> None:
        """The server's clock was set, and with it what is left of the memberships there."""
        self._lost.add(shard)
        self._set_clocks.add(shard)
        self.look_now()

    def take_notes(self, shard: Shard, notes: list[bytes]) -> None:
        """Read what other processes did: see ``scripts/include/notes.lua``."""
        for note in notes:
            known = self._context.accept_note(shard, note)
            if known is not None:
                self._take_note(shard, known)

    def _take_note(self, shard: Shard, note: Note) -> None:
        if note.epoch:
            shard.epoch.admits(note.epoch)
        if note.kind == "+":
            deadline = monotonic() + min(shard.clock.left(note.stamp_ms), _LONGEST)
            with self._lock:
                self._memberships[note.group, note.member] = _Membership(shard.number, deadline, shard.epoch.generation)
        elif note.kind == "-":
            self.forget(note.group, note.member)

    # What runs in the I/O thread

    async def _run(self) -> None:
        failures = 0
        while True:
            if await self._renew_all():
                failures = 0
                await self._wait(self._life / 3)
            else:
                first, last = _BACKOFF
                await sleep(min(last, self._life / 3, first * 2 ** min(failures, 10)))
                failures += 1

    async def _renew_all(self) -> bool:
        context = self._context
        self._drop_old()
        with self._lock:
            shards = {membership.shard for membership in self._memberships.values()}
        kept = {(shard, context.name or self._own_name) for shard in shards}
        if context.name:
            kept.add((context.home.number, context.name))
        machine = await self._machine_name()
        if machine is not None:
            kept.add((context.shard_of(f"{machine}!").number, machine))
        results = await asyncio.gather(
            *(self._renew(context.shards[shard], name) for shard, name in kept), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, RemoteUnavailable):
                raise result
        return not any(isinstance(result, BaseException) for result in results)

    async def _machine_name(self) -> str | None:
        """The name of the machine if it has members. The process lives on where the local half is out of order."""
        if self._machine is None:
            return None
        try:
            return f"@{await self._machine.id()}" if self._machine.has_members() else None
        except (HybridLayerError, OSError) as error:
            warn("machine", f"The local half of the layer does not work: {error}")
            return None

    async def _renew(self, shard: Shard, name: str) -> None:
        keys = [shard.keys.alive(name), shard.keys.notes(name), shard.keys.epoch, shard.keys.alive("")]
        asked, known_epoch = boottime(), shard.epoch.known
        lost = shard.number in self._lost
        self._lost.discard(shard.number)
        try:
            was_known = "1" if shard.number in self._known else "0"
            command = scripts.RENEW.command(keys, int(self._life * 1000), was_known, shard.clock.for_scripts())
            reply = await self._connections.run(shard.number, command, replies.is_renewal)
            self._known.add(shard.number)
            gone, epoch, *rest = reply
            time, notes = rest[:2], rest[2:]
            shard.clock.measured(seconds(time), asked)
            shard.epoch.answered(epoch, known_epoch)
            self.take_notes(shard, notes)
            if gone or lost:
                await self._restore(shard)
        except BaseException:
            self._lost.add(shard.number)
            raise

    async def _restore(self, shard: Shard) -> None:
        with self._lock:
            known = [key for key, membership in self._memberships.items() if membership.shard == shard.number]
        for start in range(0, len(known), _AT_ONCE):
            await self._restore_some(shard, known[start : start + _AT_ONCE])
        self._set_clocks.discard(shard.number)

    async def _restore_some(self, shard: Shard, known: list[tuple[str, str]]) -> None:
        keys, now = shard.keys, monotonic()
        how = "raise" if shard.number in self._set_clocks else "restore"
        with self._lock:
            missing = [
                (group, member, int((membership.deadline - now) * 1000))
                for group, member in known
                if (membership := self._memberships.get((group, member))) is not None
                and membership.generation == shard.epoch.generation
            ]
        commands = [
            scripts.GROUP_ADD.command([keys.group(group), keys.epoch, keys.parts(group)], member, left, how, group)
            for group, member, left in missing
            if left > 0
        ]
        await asyncio.gather(*(self._connections.run(shard.number, command) for command in commands))
        with self._lock:
            ended = [(group, member) for group, member, _ in missing if (group, member) not in self._memberships]
        # Meanwhile, and perhaps before they were put back.
        commands = [
            scripts.GROUP_DISCARD.command([keys.group(group)], member, group, keys.parts(group))
            for group, member in ended
        ]
        await asyncio.gather(*(self._connections.run(shard.number, command) for command in commands))
        if ended:  # and what was ended may just have been begun anew: the next round looks
            self._lost.add(shard.number)

    def _drop_old(self) -> None:
        """Forget memberships that ended, by time or by a flush."""
        now = monotonic()
        with self._lock:
            for key, membership in list(self._memberships.items()):
                if (
                    membership.deadline <= now
                    or membership.generation != self._context.shards[membership.shard].epoch.generation
                ):
                    del self._memberships[key]
