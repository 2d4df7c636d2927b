# SPDX-License-Identifier: BSD-3-Clause
"""The one reader of a process's inboxes on a shard. Two would break the order.

It runs in the first event loop that waits for a process-specific channel, and reads only while a coroutine waits
unserved. If there is none in its loop but one in another, the reading moves there. It also moves when its loop ends,
after the answer to the read under way.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.loops import call_in
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.intake import Intake, Taken
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.replies import Batch
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Reader, Store
from hybrid_layer.remote.runtime.backoff import LINGER, ReadingLost
from hybrid_layer.supervision import Guard, apart, keep_going, start_task
from hybrid_layer.timers import Timer, call_later

BATCH = 64
"""Most messages per read, if the server supports that."""
_WHAT = "the reader of inboxes"
_WATCH = 1.0
"""Seconds between two checks by a waiting loop that the reader's loop still runs."""


class _Reading:
    """The reading in one loop."""

    __slots__ = ("intake", "loop", "news", "reader", "reads", "retired", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, reader: Reader, intake: Intake) -> None:
        self.loop = loop
        self.reader = reader
        self.intake = intake
        self.news = asyncio.Event()
        self.reads = True
        """A read is under way or about to begin."""
        self.retired = False
        self.task: asyncio.Task[None] | None = None


class InboxReader:
    """Moves between loops. At most one `_Reading` is not retired."""

    def __init__(self, context: Context, store: Store, shard: Shard, heartbeat: Heartbeat, outages: Outages) -> None:
        self._context = context
        self._store = store
        self._shard = shard
        self._heartbeat = heartbeat
        self._outages = outages
        self._lock = threading.RLock()
        self._reading: _Reading | None = None
        self._watches: dict[asyncio.AbstractEventLoop, Timer] = {}
        # What all shards return at once must fit into the buffer of the channel with the least capacity, or messages
        # would be dropped.
        policy = context.policy
        least = min([policy.capacity, *policy.channel_capacity.values()])
        self._batch = min(BATCH, max(1, least // len(context.shards)))
        self._turn = 0

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read, unless another loop does. Called in `loop`, where a coroutine waits."""
        reading = self._reading
        if reading is not None and reading.loop is loop and reading.task is not None and not reading.task.done():
            # Nearly always. Needs no lock: the task belongs to this thread, so it does not run now. When it ends, even
            # because of another thread, it checks once more for waiters.
            if not reading.reads:
                reading.news.set()
            return
        with self._lock:
            if self._context.inbox.unserved_loop(loop) is not loop:
                return
            reading = self._reading
            if reading is not None and reading.loop is not loop and reading.reads and reading.loop.is_running():
                self._watch(loop)
                return
            if reading is not None:
                self._retire(reading)
            self._begin(loop)

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the read if nobody waits any more: a waiter in `loop`, which runs here, was cancelled."""
        reading = self._reading
        if reading is not None and reading.reads and self._context.inbox.unserved_loop(reading.loop) is None:
            call_later(loop, LINGER, lambda: self._wake_if_idle(reading))

    def inboxes_changed(self) -> None:
        """Include another inbox in the reading."""
        reading = self._reading
        if reading is not None and reading.reads:
            reading.reader.interrupt()

    async def close(self) -> None:
        """End the reading in the running loop, after the answer to the read under way."""
        loop = asyncio.get_running_loop()
        watch = self._watches.pop(loop, None)
        if watch is not None:
            watch.cancel()
        with self._lock:
            reading = self._reading
            if reading is None or reading.loop is not loop or reading.task is None:
                return
            self._retire(reading)
        if reading.reads:
            reading.reader.interrupt()
        await asyncio.wait([reading.task])

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        context, shard = self._context, self._shard
        intake = Intake(context, shard, _WHAT, context.is_own)
        reading = self._reading = _Reading(loop, self._store.reader(shard, context.name), intake)
        on_loop_end, end = self._context.loops.get().on_loop_end, lambda: self._abort(reading)
        on_loop_end.append(end)
        reading.task = start_task(loop, self._run(reading))
        apart(reading.task.add_done_callback, lambda _: on_loop_end.remove(end))

    async def _run(self, reading: _Reading) -> None:
        context = self._context
        try:
            await keep_going(_WHAT, partial(self._read, reading), context.statistics.count)
        finally:
            with self._lock:
                self._retire(reading)
            await reading.reader.close()
            waiting = context.inbox.unserved_loop(reading.loop)
            if waiting is not None and not (waiting is reading.loop and reading.reader.cancelled):
                call_in(waiting, partial(self.poll, waiting))

    async def _read(self, reading: _Reading) -> None:
        try:
            while self._goes_on(reading):
                if not reading.reads:
                    await reading.news.wait()
                    continue
                inboxes = self._inboxes()
                try:
                    await reading.reader.connect()
                    if self._outages.has_lost(self._shard):
                        # Only an answered read ends an outage, so this one must not wait for a message.
                        reading.reader.interrupt()
                    batch = await reading.reader.read(inboxes, self._batch)
                except ReadingLost as error:
                    self._outages.lost(self._shard)
                    await reading.reader.pause(error)
                    continue
                if batch is not None:
                    await self._hand_over(reading, batch)
                if reading.reader.cancelled:
                    break
                if self._outages.has_lost(self._shard):
                    await self._end_outage()
        except Exception:
            await reading.reader.close()  # nobody would get what its answer brings
            raise

    async def _end_outage(self) -> None:
        """Restore what the server may have lost, then report the end of the outage to consumers."""
        try:
            await self._heartbeat.renew_process(self._shard)
        except RemoteUnavailable:
            return  # the next read tries again
        self._outages.back(self._shard)

    def _goes_on(self, reading: _Reading) -> bool:
        with self._lock:
            if reading.retired:
                return False
            loop = self._context.inbox.unserved_loop(reading.loop)
            reading.reads = loop is not None
            if loop is None:
                reading.news.clear()
            elif loop is not reading.loop:
                self._retire(reading)
                return False
            return True

    def _inboxes(self) -> list[str]:
        inboxes = self._context.inboxes
        # A read serves the first inbox that has anything. They take turns, so that a busy one does not starve others.
        self._turn = (self._turn + 1) % len(inboxes)
        return inboxes[self._turn :] + inboxes[: self._turn]

    async def _hand_over(self, reading: _Reading, batch: Batch) -> None:
        if batch.notes:
            self._heartbeat.take_notes(self._shard, batch.notes)
        else:
            await reading.intake.take(reading.reader, batch.entries, self._deliver)

    def _deliver(self, taken: Taken) -> None:
        entry, deadline, generation = taken
        self._context.inbox.deliver(entry.names, entry.payload, deadline, generation)

    def _retire(self, reading: _Reading) -> None:
        reading.retired = True
        if self._reading is reading:
            self._reading = None
        call_in(reading.loop, reading.news.set)

    def _abort(self, reading: _Reading) -> None:
        if reading.task is not None and not reading.task.done():
            reading.reader.abort(reading.task)

    def _wake_if_idle(self, reading: _Reading) -> None:
        if self._reading is reading and reading.reads and self._context.inbox.unserved_loop(reading.loop) is None:
            reading.reader.interrupt()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in self._watches:
            self._watches[loop] = call_later(loop, _WATCH, lambda: self._watched(loop))

    def _watched(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watches.pop(loop, None)
        with Guard(_WHAT, self._context.statistics.count, lambda error: self._watch(loop)):
            self.poll(loop)
