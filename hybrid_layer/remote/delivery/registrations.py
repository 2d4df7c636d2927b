# SPDX-License-Identifier: BSD-3-Clause
"""What the servers know of the machine: that it lives, and which groups have members on it.

The members themselves are in shared memory. The server at a group's home has one entry for the machine, a registration,
until a time T that also names it. Shared memory keeps a record of each, so that only the machine's first member of a
group needs a command. ``tests/models/registration.py`` has the rules, and what goes wrong without each of them.

The commands run in the I/O thread, so that callers in several loops share them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.epoch import numbers_of
from hybrid_layer.remote.delivery.heartbeat import try_for_a_moment
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.statistics import warn
from hybrid_layer.supervision import Guard, start_task
from hybrid_layer.transport import Group, Machine, Renewed, View

_LEAST_LIFE = 3.0
"""Least life of the machine's alive key, in seconds, even if messages expire sooner."""
_IDLE = 60.0
"""Seconds after which a group without members here is forgotten: its next member often comes sooner."""
_SWEEP = 20.0
"""Seconds between two looks for such groups."""
_AT_ONCE = 200
"""Groups to register in one pipeline."""
_ROUNDS = 20
"""Registrations of one group that may be void when they are answered, such as by flushes, before a call gives up."""


class Registrations:
    """Those of one process's machine, for one layer."""

    def __init__(self, context: Context, store: Store, machine: Machine) -> None:
        self._context = context
        self._store = store
        self._machine = machine
        self._lock = threading.RLock()
        self._under_way: dict[str, Future[None]] = {}
        """The registrations of groups that were sent and not answered, by group; "" is that of the machine."""
        self._walks: dict[int, asyncio.Task[None]] = {}
        """By shard, the tasks that register all groups there."""
        self._life_in_group = 2 * context.policy.group_expiry
        self.life = max(float(context.policy.expiry), _LEAST_LIFE)
        """Seconds for which the machine counts as alive. It is renewed three times within them."""
        self._sweeps: dict[int, asyncio.Task[None]] = {}
        """By shard, the tasks that forget groups."""
        self._sweep_at = [monotonic() + _SWEEP] * len(context.shards)
        self._met: dict[int, int] = {}
        """By shard, the incarnation of the server's data that this process has met last."""
        self.clock_sets = [0] * len(context.shards)
        """By shard, how often the server's clock was set: by then, registrations may have ended."""
        for shard in context.shards:
            shard.clock.on_set = partial(self._clock_set, shard.number, shard.clock.on_set)
        self._guard = Guard("the care for the machine's groups", context.statistics.count)

    def _clock_set(self, shard: int, and_then: Callable[[], None]) -> None:
        self.clock_sets[shard] += 1
        and_then()

    # What the layer calls, in any loop and thread

    async def open(self) -> None:
        """Make the machine known on its home, or raise `RemoteUnavailable`. Wait for the others for a moment, too."""
        await self._shared("", self._open)

    async def join(self, group: str, channel: str) -> None:
        """Make `channel`, which is on this machine, a member. One command if it is the machine's first member."""
        shard = self._context.shard_of(group)
        is_new, is_registered = await self._machine.join(group, channel, shard.number)
        try:
            for _ in range(_ROUNDS):
                if is_registered:
                    return
                await self._shared(group, partial(self._register, shard, group))
                # Looked at again: what was awaited may be older than the membership, and be forgotten by now.
                _, is_registered = await self._machine.join(group, channel, shard.number)
            if not is_registered:
                raise shard.unavailable(f"it or this machine was flushed again and again while {group} was registered")
        except BaseException:
            if is_new:
                await self._machine.leave(group, channel)
            raise

    async def _shared(self, key: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work()` in the I/O thread, or wait until it is done if it is under way for another caller of `key`."""
        with self._lock:
            future = self._under_way.get(key)
            if future is None:
                future = self._under_way[key] = io_thread.current().submit(work)
                future.add_done_callback(partial(self._ended, key))
        # A caller that is cancelled leaves it to the others.
        await asyncio.shield(asyncio.wrap_future(future))

    def _ended(self, key: str, _: Future[None]) -> None:
        with self._lock:
            self._under_way.pop(key, None)

    # What runs in the I/O thread

    async def renew(self, shard: Shard) -> View:
        """Renew the machine's alive key, and return what is known then.

        If the server has lost its data, all groups are registered, in the background.
        """
        machine, known_epoch = self._machine, shard.epoch.known
        view = await machine.look(shard.number)
        # Random, so that no late renewal by another process sets it once more.
        registration = 1 + secrets.randbelow(2**64 - 1)
        renewal = await self._store.renew_machine(shard, view.machine, self.life, view, registration)
        shard.epoch.answered(renewal.epoch, known_epoch)
        incarnation, flushes = numbers_of(renewal.epoch) or (0, 0)
        if view.incarnation not in (0, incarnation) and self._met.get(shard.number) == incarnation:
            warn(
                ("hosts", shard.number),
                f"Two layers of this machine with prefix {self._context.prefix!r} take turns with different data on "
                f"their server number {shard.number}, here {shard.label}: each loses what the other one gets. Give all "
                f"the same hosts, or prefixes of their own.",
            )
        self._met[shard.number] = incarnation
        answer = Renewed(renewal.run, renewal.last, incarnation, flushes, renewal.registration)
        await machine.renewed(shard.number, view, answer)
        view = await machine.look(shard.number)
        if view.walked != view.registration and shard.number not in self._walks:
            walk = self._walks[shard.number] = start_task(asyncio.get_running_loop(), self._walk(shard, view))
            walk.add_done_callback(lambda _: self._walks.pop(shard.number))
        return view

    async def _open(self) -> None:
        home = self._context.shard_of(f"@{await self._machine.id()}!")
        await self.renew(home)
        others = [shard for shard in self._context.shards if shard is not home]
        if others:
            await try_for_a_moment([self.renew(shard) for shard in others])

    async def _register(self, shard: Shard, group: str) -> None:
        """Register `group` and record that."""
        view = await self._machine.look(shard.number)
        if not view.registration:  # a server treats what it does not know as dead
            view = await self.renew(shard)
        registration = await self._store.register(shard, group, view.machine, self._life_in_group, view.forgotten)
        shard.epoch.admits(registration.epoch)
        await self._machine.record(group, shard.number, view, registration.t, registration.life)

    async def _walk(self, shard: Shard, view: View) -> None:
        """Register all groups with members here, as the server does not know of any before `view.registration`."""
        with self._guard, contextlib.suppress(RemoteUnavailable):  # the next renewal begins another walk
            groups = [group async for group in self._groups() if not group.idle]
            names = [group.name for group in groups if self._context.shard_of(group.name) is shard]
            for start in range(0, len(names), _AT_ONCE):
                await asyncio.gather(*(self._register(shard, name) for name in names[start : start + _AT_ONCE]))
            await self._machine.walked(shard.number, view.registration)

    def sweep(self, shard: Shard) -> None:
        """Forget groups without members here, in the background, if that is due."""
        if monotonic() >= self._sweep_at[shard.number] and shard.number not in self._sweeps:
            self._sweep_at[shard.number] = monotonic() + _SWEEP
            sweep = self._sweeps[shard.number] = start_task(asyncio.get_running_loop(), self._sweep(shard))
            sweep.add_done_callback(lambda _: self._sweeps.pop(shard.number))

    async def _sweep(self, shard: Shard) -> None:
        """Forget the groups without members here for a minute, or one for each user would stay on the server."""
        with self._guard, contextlib.suppress(RemoteUnavailable):  # each group's next message leads to it again
            groups = [group async for group in self._groups() if group.t and group.shard == shard.number]
            idle = [group for group in groups if group.idle >= _IDLE]
            for start in range(0, len(idle), _AT_ONCE):
                await asyncio.gather(*(self._forget(shard, group) for group in idle[start : start + _AT_ONCE]))

    async def _forget(self, shard: Shard, group: Group) -> None:
        if await self._machine.forget(group.name, group.shard, group.t):
            await self._store.forget(shard, group.name, await self._machine.id(), group.t)

    async def _groups(self) -> AsyncIterator[Group]:
        place: int | None = 0
        while place is not None:
            place, groups = await self._machine.groups(place)
            for group in groups:
                yield group
