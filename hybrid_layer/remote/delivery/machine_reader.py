# SPDX-License-Identifier: BSD-3-Clause
"""Reads the machine's stream on a shard into shared memory, while this process holds the shard's lease.

Reading takes nothing away from the server. Shared memory keeps the position, and takes in each entry once and in order,
whoever reads. So a read may be abandoned at any time, and two readers do no harm. ``tests/models/stream.py`` has the
rules, and what goes wrong without each of them.

Runs in the I/O thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from hybrid_layer.clock import monotonic
from hybrid_layer.envelope import MARK, roll_call_in
from hybrid_layer.exceptions import HybridLayerError, RemoteUnavailable, Undecodable
from hybrid_layer.remote.delivery.answers import send_answer
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.epoch import numbers_of
from hybrid_layer.remote.delivery.registrations import Registrations
from hybrid_layer.remote.delivery.replies import Note, StreamItem
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Store, StreamReader
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.statistics import warn
from hybrid_layer.supervision import keep_going, start_task
from hybrid_layer.timers import sleep
from hybrid_layer.transport import Arrival, Machine, Taken, View

_BATCH = 16
_TRIM_AT = 64
"""Entries taken in until the stream is trimmed at once; otherwise the upkeep does it."""
_UPKEEP = 1.0
"""Seconds between two looks at what is due."""
_TRIES = 3
"""Connections to try, in quick succession, before the shard is left to another process."""
_PAUSE = 0.05
"""Seconds until shared memory is asked again whether it has room, or whether the position is known."""
_LONGEST = 1e9
"""Longest life, in seconds, of what a server has: of a membership by a note, above all."""

_ROLL_CALL = "a roll call"
_WHAT = "the reader of the machine's stream"
_UPKEEP_OF = "the upkeep of the machine's stream"


class MachineReader:
    """One per shard, process and layer."""

    def __init__(
        self, context: Context, store: Store, shard: Shard, machine: Machine, registrations: Registrations
    ) -> None:
        self._context = context
        self._store = store
        self._shard = shard
        self._machine = machine
        self._registrations = registrations
        self._task: asyncio.Task[None] | None = None
        self._untrimmed = 0
        self._server = 0, 0
        """Run id and incarnation of the server at the other end of the connection."""
        self.has_failed = False
        """It has given up: it cannot reach the server."""

    def begin(self) -> None:
        """Read from now on. Called in the I/O thread."""
        self.end()
        self.has_failed = False
        work = keep_going(_WHAT, self._read_until_lost, self._context.statistics.count)
        self._task = start_task(asyncio.get_running_loop(), work)

    def end(self) -> None:
        """Stop reading: another process reads."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _read_until_lost(self) -> None:
        upkeep = start_task(
            asyncio.get_running_loop(), keep_going(_UPKEEP_OF, self._keep_up, self._context.statistics.count)
        )
        try:
            goes_on = True
            while goes_on:
                try:
                    goes_on = await self._read_stream(await self._machine.id())
                except HybridLayerError as error:  # of shared memory, such as `SegmentBusy`
                    warn(("machine", "reader"), f"Messages from {self._shard.label} wait for shared memory: {error}")
                    await sleep(_PAUSE)
        finally:
            upkeep.cancel()
        self.has_failed = True

    async def _read_stream(self, machine: str) -> bool:
        """Read the stream of `machine`. True: the segment's id is another one. False: the server cannot be reached."""
        shard, failures = self._shard, 0
        stream = self._store.stream(shard, machine)
        try:
            while failures < _TRIES:
                try:
                    if not await self._read(stream, machine):
                        return True
                    failures = 0
                except (ReadingLost, RemoteUnavailable) as error:
                    self._machine.set_outage(shard.number, True)
                    failures += 1
                    await stream.pause(ReadingLost(str(error)))
            return False
        finally:
            await stream.close()

    async def _read(self, stream: StreamReader, machine: str) -> bool:
        """Read once. False: the segment is another machine's."""
        if await stream.connect():  # it may be to another server
            view = await self._registrations.renew(self._shard)
            self._server = view.run, view.incarnation
            self._machine.set_outage(self._shard.number, False)
        view = await self._machine.look(self._shard.number)
        if (view.run, view.incarnation) != self._server:  # a renewal has met another server than this one
            await stream.close()
            await sleep(_PAUSE)
            return True
        while view.position is None:
            view = await self._registrations.renew(self._shard)
            if view.position is None:  # the segment has just been replaced, or another process was asking too
                await sleep(_PAUSE)
        if view.machine != machine:
            return False
        items = await stream.read(view.position, _BATCH)
        await self._learn_time(items)
        for item in items:
            if not await self._take_in(view, item):
                return True
            self._untrimmed += 1
        if self._untrimmed >= _TRIM_AT:
            await self._trim()
        return True

    async def _learn_time(self, items: Sequence[StreamItem]) -> None:
        """Measure the server's clock if, as far as known, one of `items` has expired: the clock may have been set."""
        clock = self._shard.clock
        if any(item.entry is not None and clock.left(item.entry.stamp_ms) <= 0 for item in items):
            with contextlib.suppress(RemoteUnavailable):
                await self._store.measure(self._shard)

    async def _take_in(self, view: View, item: StreamItem) -> bool:
        """Take in one entry. False: what was read is out of date."""
        has_renewed = False
        while True:
            arrival, fault = self._arrival(view, item, has_renewed)
            taken = await self._machine.put(self._shard.number, view, arrival)
            if taken is Taken.LATER:
                await sleep(_PAUSE)
            elif taken is Taken.STALE and not has_renewed:
                # It may be of another incarnation of the server's data, which only a renewal tells.
                now = await self._registrations.renew(self._shard)
                if (now.machine, now.turn) != (view.machine, view.turn):
                    return False
                has_renewed = True
            else:
                break
        if taken is Taken.DONE and fault == "expired":
            self._machine.count("expired")
        elif taken is Taken.DONE and fault == _ROLL_CALL:
            await self._answer(item)
        elif taken is Taken.DONE and fault:
            self._context.undecodable(self._shard, fault)
        elif taken is Taken.FORGET:
            with contextlib.suppress(RemoteUnavailable):  # the group's next message leads here again
                await self._store.forget(self._shard, item.group, view.machine, item.t)
        return taken is not Taken.STALE

    async def _answer(self, item: StreamItem) -> None:
        roll_call = None if item.entry is None else roll_call_in(item.entry.payload)
        if roll_call is not None:
            names = await self._machine.group_channels(item.group, roll_call.ends)
            await send_answer(self._context, self._store, self._shard, roll_call.reply_to, names)

    def _arrival(self, view: View, item: StreamItem, has_renewed: bool) -> tuple[Arrival, str]:
        """What is to be done with an entry, and why that is nothing."""
        nothing = Arrival(item.id, view.incarnation, view.flushes, "nothing")
        content, epoch = item.entry or item.note, self._shard.epoch
        if content is None or epoch.is_absurd(content.epoch):
            return nothing, "an entry"
        numbers = numbers_of(content.epoch) or (view.incarnation, view.flushes)  # some notes have no epoch
        if numbers[0] != view.incarnation and has_renewed:
            # The server has lost the data that this is of, but not this. That was no flush.
            if not epoch.admits(content.epoch):
                return nothing, ""
            numbers = view.incarnation, view.flushes
        life = min(self._shard.clock.left(content.stamp_ms), _LONGEST)
        if isinstance(content, Note):
            if content.kind == "f":
                return Arrival(item.id, *numbers, "flush"), ""
            if content.kind == "-":
                return Arrival(item.id, *numbers, "-", channel=content.member, group=content.group), ""
            found = Arrival(item.id, *numbers, "+", channel=content.member, group=content.group, life=life)
            return found if life > 0 else nothing, ""
        payload = content.payload
        if item.group and payload.startswith(MARK):
            try:
                if roll_call_in(payload) is not None:
                    return nothing, _ROLL_CALL if life > 0 else ""
            except Undecodable:
                return nothing, "an entry"
        if life <= 0:
            return nothing, "expired"
        if item.group:
            return Arrival(item.id, *numbers, "group", group=item.group, t=item.t, payload=payload, life=life), ""
        return Arrival(item.id, *numbers, "direct", channel=content.names[0], payload=payload, life=life), ""

    async def _keep_up(self) -> None:
        """Renew the machine's alive key, trim the stream, and forget groups without members, when each is due."""
        registrations, number = self._registrations, self._shard.number
        renew_at = monotonic() + registrations.life / 3
        clock_sets = registrations.clock_sets[number]
        while True:
            await sleep(_UPKEEP)
            try:
                now = monotonic()
                if clock_sets != registrations.clock_sets[number]:
                    clock_sets = registrations.clock_sets[number]
                    await self._machine.void(number)
                if now >= renew_at or not (await self._machine.look(number)).registration:
                    await registrations.renew(self._shard)
                    renew_at = now + registrations.life / 3
                registrations.sweep(self._shard)
                if self._untrimmed:
                    await self._trim()
            except RemoteUnavailable:
                continue  # the reader notices it, and says so
            except HybridLayerError as error:
                warn(("machine", number), f"The local half of the layer does not work: {error}")

    async def _trim(self) -> None:
        """Remove from the server what lies in shared memory."""
        view = await self._machine.look(self._shard.number)
        if view.position is not None:
            self._untrimmed = 0
            await self._store.trim(self._shard, view.machine, view.position)
