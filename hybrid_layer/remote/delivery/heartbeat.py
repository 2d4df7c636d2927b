# SPDX-License-Identifier: BSD-3-Clause
"""Keeps the process known to the servers: its alive keys, and the memberships of its channels.

Runs in the I/O thread, so that it works while the process's own event loops are busy or gone. When a server has lost
data (by a restart, a failover, or a stop longer than the alive key's life), the heartbeat restores it from its own
record.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hybrid_layer import identity
from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.intake import accept_note
from hybrid_layer.remote.delivery.replies import Note
from hybrid_layer.remote.delivery.reporting import report_to
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.supervision import start_task
from hybrid_layer.timers import sleep

_LEAST_LIFE = 1.0
"""Least life of an alive key, in seconds, even if messages expire sooner."""
_BACKOFF = (0.05, 0.5)
"""First and longest pause between two tries with a server that does not answer, in seconds."""
_LONGEST = 1e9
"""Longest life of a membership by a note, in seconds. Servers refuse to keep a key much longer."""
OPENING = 0.5
"""Seconds that a process waits, when it begins, until the servers that are not its own know it."""
_SLOW = 0.2
"""Seconds after which a renewal no longer delays those on other servers."""
_AT_ONCE = 200
"""Memberships to restore in one pipeline."""


async def try_for_a_moment(renewals: Sequence[Coroutine[Any, Any, Any]]) -> None:
    """Run `renewals` at once, for `OPENING` seconds at most. Those that are slow or fail are tried again later."""
    tasks = [start_task(asyncio.get_running_loop(), renewal) for renewal in renewals]
    _, slow = await asyncio.wait(tasks, timeout=OPENING)
    for task in slow:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Membership:
    shard: int
    deadline: float
    flushes: int
    """`Epoch.flushes_met` when it began: a later flush has ended it."""


class Heartbeat(ResidentTask):
    """One per process and layer."""

    _what = "the heartbeat"

    def __init__(self, context: Context, store: Store) -> None:
        self._life = max(float(context.policy.expiry), _LEAST_LIFE)
        super().__init__(context.statistics.count, last_pause=self._life / 3)
        self._context = context
        self._store = store
        self._own_name = identity.random_id()
        self._lock = threading.Lock()
        self._memberships: dict[tuple[str, str], _Membership] = {}
        self._lost: set[int] = set()
        """Shards that may have lost data of this process."""
        self._set_clocks: set[int] = set()
        """Shards whose clock was set since the memberships there were corrected."""
        self._known: set[tuple[int, str]] = set()
        """Shards, and the name of the process that was renewed there."""
        self._renewing: dict[tuple[int, str], asyncio.Task[None]] = {}
        """The renewals under way."""
        self._due = monotonic() + self._life / 3
        """When all are renewed next, on `hybrid_layer.clock`."""
        for shard in context.shards:
            shard.clock.on_set = partial(self._clock_set, shard.number)
            shard.on_lost = partial(self._connection_lost, shard)

    # What the layer calls, in any loop and thread

    async def make_known(self, shard: Shard) -> None:
        """Make the process known on `shard`, and then, in the background, on every shard. Keep it known."""
        name = self._context.name
        if (shard.number, name) in self._known:
            return
        await io_thread.current().run(lambda: self._renew(shard, name), self._context.options.timeout)
        self._begin()

    async def open(self) -> None:
        """Make the process known on its own shard. Wait for the others for a moment, too.

        Another process may add a channel to a group there as soon as it hears of the channel.
        """
        context, thread = self._context, io_thread.current()
        await thread.run(lambda: self._renew(context.home, context.name), context.options.timeout)
        others = [shard for shard in context.shards if shard is not context.home]
        if others:
            name = context.name
            with contextlib.suppress(RemoteUnavailable):  # the thread is busy, and goes on with these
                await thread.run(lambda: try_for_a_moment([self._renew(shard, name) for shard in others]), OPENING)
        self._begin()

    def _begin(self) -> None:
        """Renew in the background from now on, first where the process is not known yet."""
        self.settle()
        self.wake()

    async def renew_process(self, shard: Shard) -> None:
        """Renew the process's alive key on `shard`, and learn its clock and epoch."""
        await self._renew(shard, self._context.name)

    def remember(self, group: str, member: str, shard: int) -> None:
        """Record that `member` is a member of `group`, to restore that if the server loses it."""
        flushes = self._context.shards[shard].epoch.flushes_met
        deadline = monotonic() + self._context.policy.group_expiry
        with self._lock:
            self._memberships[group, member] = _Membership(shard, deadline, flushes)
        self.settle()

    def forget(self, group: str, member: str) -> None:
        """Remove a membership from the record: it ended."""
        with self._lock:
            self._memberships.pop((group, member), None)

    def forget_all(self, shard: int) -> None:
        """Remove all memberships on a shard from the record."""
        with self._lock:
            for key in [key for key, membership in self._memberships.items() if membership.shard == shard]:
                del self._memberships[key]

    def _connection_lost(self, shard: Shard) -> None:
        """Renew at once: a connection broke, so the server may have lost its data."""
        self._lost.add(shard.number)
        shard.doubt()
        self.wake()

    def _clock_set(self, shard: int) -> None:
        """Renew at once: the server's clock was set, which changed how long the memberships there last."""
        self._lost.add(shard)
        self._set_clocks.add(shard)
        self.wake()

    def take_notes(self, shard: Shard, notes: Sequence[Note | None]) -> None:
        """Apply what other processes did to memberships of this one."""
        for each in notes:
            note = accept_note(self._context, shard, each)
            if note is not None:
                self._take_note(shard, note)

    def _take_note(self, shard: Shard, note: Note) -> None:
        if note.epoch:
            shard.epoch.admits(note.epoch)
        if note.kind == "+":
            deadline = monotonic() + min(shard.clock.left(note.stamp_ms), _LONGEST)
            with self._lock:
                self._memberships[note.group, note.member] = _Membership(
                    shard.number, deadline, shard.epoch.flushes_met
                )
        elif note.kind == "-":
            self.forget(note.group, note.member)

    # What runs in the I/O thread

    async def _run(self) -> None:
        renewing = self._renewing = {}
        try:
            await self._keep_known()
        finally:
            for task in renewing.values():
                task.cancel()

    async def _keep_known(self) -> None:
        failures = 0
        while True:
            self._drop_old()
            kept = self._kept()
            if monotonic() >= self._due:
                self._due = monotonic() + self._life / 3
                kept |= {(shard.number, "") for shard in self._context.shards} - {(number, "") for number, _ in kept}
            else:
                kept = {each for each in kept if each[0] in self._lost or each not in self._known}
            await self._renew_each(kept)
            if self._lost:
                first, last = _BACKOFF
                await sleep(min(last, self._life / 3, first * 2 ** min(failures, 10)))
                failures += 1
            else:
                failures = 0
                await self._wait(self._due - monotonic())

    def _kept(self) -> set[tuple[int, str]]:
        """The shards where the process is to be known, and its name."""
        context = self._context
        with self._lock:
            shards = {membership.shard for membership in self._memberships.values()}
        if context.name:
            return {(shard.number, context.name) for shard in context.shards}
        return {(shard, self._own_name) for shard in shards}

    async def _renew_each(self, kept: set[tuple[int, str]]) -> None:
        """Renew each of `kept`, or without a name only report what was counted.

        A server that is silent delays the others for a moment only.
        """
        context, renewing = self._context, self._renewing
        for number, name in kept - renewing.keys():
            shard = context.shards[number]
            work = self._renew(shard, name) if name else report_to(context, self._store, shard)
            renewing[number, name] = start_task(asyncio.get_running_loop(), work)
        if not renewing:
            return
        done, slow = await asyncio.wait(renewing.values(), timeout=_SLOW)
        for task in slow:
            task.remove_done_callback(self._renewed)
            task.add_done_callback(self._renewed)
        errors = [renewing.pop(each).exception() for each, task in list(renewing.items()) if task in done]
        for error in errors:
            if error is not None and not isinstance(error, RemoteUnavailable):
                raise error

    def _renewed(self, _: asyncio.Task[None]) -> None:
        self._news.set()

    async def _renew(self, shard: Shard, name: str) -> None:
        known_epoch = shard.epoch.known
        lost = shard.number in self._lost
        self._lost.discard(shard.number)
        try:
            ledger = self._context.ledgers[shard.number]
            report = ledger.report()
            renewal = await self._store.renew(shard, name, self._life, report)
            ledger.told(report)
            self._known.add((shard.number, name))
            shard.epoch.answered(renewal.epoch, known_epoch)
            self.take_notes(shard, renewal.notes)
            if renewal.was_lost or lost:
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
        now = monotonic()
        how = "raise" if shard.number in self._set_clocks else "restore"
        with self._lock:
            missing = [
                (group, member, membership.deadline - now)
                for group, member in known
                if (membership := self._memberships.get((group, member))) is not None
                and membership.flushes == shard.epoch.flushes_met
            ]
        await asyncio.gather(
            *(
                self._store.group_add(shard, group, member, left, how=how)
                for group, member, left in missing
                if left > 0.001
            )
        )
        with self._lock:
            ended = [(group, member) for group, member, _ in missing if (group, member) not in self._memberships]
        # These ended meanwhile, perhaps before they were restored.
        await asyncio.gather(*(self._store.group_discard(shard, group, member) for group, member in ended))
        if ended:  # they may have just begun again: the next round checks
            self._lost.add(shard.number)

    def _drop_old(self) -> None:
        """Remove memberships that expired or were flushed."""
        now = monotonic()
        with self._lock:
            for key, membership in list(self._memberships.items()):
                if (
                    membership.deadline <= now
                    or membership.flushes != self._context.shards[membership.shard].epoch.flushes_met
                ):
                    del self._memberships[key]
