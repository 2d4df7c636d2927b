"""The one reader of a process's inboxes. Two would break the order.

It runs in the first event loop that waits for a process-specific channel, and pops only while somebody waits with
nothing to take. When nobody does in its loop, but somewhere else, the reading moves there; so it does when its loop
ends, after the pop under way is answered.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.loops import call_in
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.heartbeat import Keeper
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.blocking_reader import LINGER, WAKE_LIFE_MS, Pops
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.entries import Entry
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.supervision import Guard, apart, keep_going, start_task
from hybrid_layer.timers import Timer, call_later

BATCH = 64
"""Messages per pop, where the server can."""
_WHAT = "the reader of inboxes"
_WATCH = 1.0
"""Seconds between two looks of a waiting loop whether the reader's loop still runs."""


class _Reading:
    """The reading in one loop."""

    __slots__ = ("loop", "news", "popping", "pops", "retired", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, pops: Pops) -> None:
        self.loop = loop
        self.pops = pops
        self.news = asyncio.Event()
        self.popping = True
        self.retired = False
        self.task: asyncio.Task[None] | None = None


class InboxReader:
    """Moves between loops; at most one `_Reading` is not retired."""

    def __init__(self, context: Context, connections: Connections, keeper: Keeper, outages: Outages) -> None:
        self._context = context
        self._connections = connections
        self._keeper = keeper
        self._outages = outages
        self._lock = threading.RLock()
        self._reading: _Reading | None = None
        self._watches: dict[asyncio.AbstractEventLoop, Timer] = {}
        # A batch must fit into the buffer of the channel with the least capacity, or reading would drop messages.
        policy = context.policy
        self._batch = min(BATCH, policy.capacity, *policy.channel_capacity.values())
        self._turn = 0
        self._guard = Guard(_WHAT, context.statistics.count)

    def ensure(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read, if somebody waits in vain. Called in `loop`, where somebody waits."""
        reading = self._reading
        if reading is not None and reading.loop is loop and reading.task is not None and not reading.task.done():
            # Nearly always. No lock: the task runs in this thread and so not now, and if it ends, even because of
            # another thread, it looks once more for who waits.
            if not reading.popping:
                reading.news.set()
            return
        with self._lock:
            if self._context.inbox.unserved_loop(loop) is not loop:
                return
            reading = self._reading
            if reading is not None and reading.loop is not loop and reading.popping and reading.loop.is_running():
                self._watch(loop)
                return
            if reading is not None:
                self._retire(reading)
            self._begin(loop)

    def relax(self, loop: asyncio.AbstractEventLoop) -> None:
        """Somebody was cancelled in `loop`, which runs here. A pop for nobody would take what nobody waits for."""
        reading = self._reading
        if reading is not None and reading.popping and self._context.inbox.unserved_loop(reading.loop) is None:
            call_later(loop, LINGER, lambda: self._wake_if_idle(reading))

    def wake(self) -> None:
        """End the pop under way, by way of the I/O thread."""
        context, home = self._context, self._context.home
        command = scripts.WAKE.command([home.keys.wake(context.name)], WAKE_LIFE_MS)
        self._connections.run_later(home.number, command)

    def parts_changed(self) -> None:
        """There is another inbox to read."""
        if self._reading is not None and self._reading.popping:
            self.wake()

    async def stop(self) -> None:
        """End the reading in the running loop, after the pop under way is answered."""
        loop = asyncio.get_running_loop()
        watch = self._watches.pop(loop, None)
        if watch is not None:
            watch.cancel()
        with self._lock:
            reading = self._reading
            if reading is None or reading.loop is not loop or reading.task is None:
                return
            self._retire(reading)
        if reading.popping:
            self.wake()
        await asyncio.wait([reading.task])

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        context, home = self._context, self._context.home
        pops = Pops(home.host, home.clock, context.options.block_time, context.options.timeout, self.wake)
        reading = self._reading = _Reading(loop, pops)
        stoppers, stop = self._connections.loops.get().stoppers, lambda: self._abort(reading)
        stoppers.append(stop)
        reading.task = start_task(loop, self._run(reading))
        apart(reading.task.add_done_callback, lambda _: stoppers.remove(stop))

    async def _run(self, reading: _Reading) -> None:
        context = self._context
        try:
            await keep_going(_WHAT, partial(self._read, reading), context.statistics.count)
        finally:
            with self._lock:
                self._retire(reading)
            await reading.pops.close()
            waiting = context.inbox.unserved_loop(reading.loop)
            if waiting is not None and not (waiting is reading.loop and reading.pops.cancelled):
                call_in(waiting, partial(self.ensure, waiting))

    async def _read(self, reading: _Reading) -> None:
        try:
            while self._goes_on(reading):
                if not reading.popping:
                    await reading.news.wait()
                    continue
                keys = self._keys()
                try:
                    await reading.pops.connect()
                    if self._outages.is_out:
                        self.wake()  # only an answered pop ends an outage, and this one need not wait for a message
                    answer = await reading.pops.pop(keys, self._batch)
                except ReadingLost as error:
                    self._outages.lost()
                    await reading.pops.pause(error)
                    continue
                if answer is not None:
                    await self._deliver(reading.pops, *answer)
                if reading.pops.cancelled:
                    break
                if self._outages.is_out:
                    await self._end_outage()
        except Exception:
            await reading.pops.close()  # what it may still bring belongs to nobody
            raise

    async def _end_outage(self) -> None:
        """Pops are answered again. What the server may have lost is put back before consumers are told."""
        try:
            await self._keeper.renew_home()
        except RemoteUnavailable:
            return  # after the next pop
        self._outages.back()

    def _goes_on(self, reading: _Reading) -> bool:
        with self._lock:
            if reading.retired:
                return False
            loop = self._context.inbox.unserved_loop(reading.loop)
            reading.popping = loop is not None
            if loop is None:
                reading.news.clear()
            elif loop is not reading.loop:
                self._retire(reading)
                return False
            return True

    def _keys(self) -> list[str]:
        context, keys, parts = self._context, self._context.home.keys, self._context.parts
        # Pops serve the first key that has anything: the parts take turns, lest a busy one starve the others.
        self._turn = (self._turn + 1) % len(parts)
        turned = parts[self._turn :] + parts[: self._turn]
        return [keys.wake(context.name), keys.notes(context.name), *map(keys.inbox, turned)]

    async def _deliver(self, pops: Pops, key: str, elements: list[bytes]) -> None:
        context, home = self._context, self._context.home
        if key == home.keys.wake(context.name):
            return
        if key == home.keys.notes(context.name):
            self._keeper.take_notes(home, elements)
            return
        entries = []
        for element in elements:
            with self._guard:  # this message may be lost, the rest of the batch need not be
                entry = context.accept_own(element)
                if entry is None and await context.is_present(home, element, pops):
                    entry = context.accept_own(element)
                if entry is not None:
                    entries.append(entry)
        generation = home.epoch.generation
        try:
            await pops.make_sure(entry.stamp_ms for entry in entries)
        finally:
            for entry in entries:
                with self._guard:
                    self._deliver_one(entry, generation)

    def _deliver_one(self, entry: Entry, generation: int) -> None:
        context, left = self._context, self._context.home.clock.left(entry.stamp_ms)
        if left <= 0:
            context.statistics.count("expired", len(entry.names))
        else:
            context.inbox.deliver(entry.names, entry.payload, monotonic() + left, generation)

    def _retire(self, reading: _Reading) -> None:
        reading.retired = True
        if self._reading is reading:
            self._reading = None
        call_in(reading.loop, reading.news.set)

    def _abort(self, reading: _Reading) -> None:
        if reading.task is None or reading.task.done():
            return
        if reading.loop.is_closed():
            # The pop under way must not take a message: nobody would ever read its answer.
            if reading.popping:
                self.wake()
            reading.pops.cut(reading.task)
            return
        reading.pops.give_up()
        reading.task.cancel()

    def _wake_if_idle(self, reading: _Reading) -> None:
        if self._reading is reading and reading.popping and self._context.inbox.unserved_loop(reading.loop) is None:
            self.wake()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in self._watches:
            self._watches[loop] = call_later(loop, _WATCH, lambda: self._watched(loop))

    def _watched(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watches.pop(loop, None)
        with Guard(_WHAT, self._context.statistics.count, lambda error: self._watch(loop)):
            self.ensure(loop)
