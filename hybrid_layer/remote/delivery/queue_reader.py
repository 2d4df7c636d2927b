# SPDX-License-Identifier: BSD-3-Clause
"""Readers of normal channels: one per event loop and shard.

A read takes one message, and only from channels with a waiter. If the waiter has left meanwhile, the next waiter of the
loop gets the message; without one, it returns to the head of its queue.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.inbox import Waiter, WaitQueue, Waker
from hybrid_layer.loops import running
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.intake import Intake, Taken
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Reader, Store
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.remote.runtime.backoff import LINGER, ReadingLost
from hybrid_layer.statistics import warn
from hybrid_layer.supervision import Guard, keep_going, start_task
from hybrid_layer.timers import call_later

_WHAT = "the reader of normal channels"


@dataclass(slots=True)
class _Queue:
    """The waiters of one channel, and the messages read for them."""

    waiters: WaitQueue = field(default_factory=WaitQueue)
    held: deque[Taken] = field(default_factory=deque)


class QueueReader:
    """Reads one shard for the coroutines of one loop. Used in that loop only."""

    def __init__(self, context: Context, store: Store, shard: Shard) -> None:
        self._context = context
        self._store = store
        self._shard = shard
        self._loop = asyncio.get_running_loop()
        self._queues: dict[str, _Queue] = {}
        """In the order in which the server is asked; a channel that was served moves to the end."""
        self._reading: frozenset[str] = frozenset()
        """The channels of the read under way."""
        self._news = asyncio.Event()
        self._returns: set[concurrent.futures.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._guard = Guard(_WHAT, context.statistics.count)
        self._intake = Intake(context, shard, _WHAT)
        self._reader: Reader = store.reader(shard)

    async def receive(self, channel: str) -> bytes:
        """Wait for the next message of `channel`."""
        queue = self._queues.get(channel)
        if queue is None:
            queue = self._queues[channel] = _Queue()
        waiter = queue.waiters.join(self._loop)
        try:
            while True:
                payload = self._take(queue, waiter)
                if payload is not None:
                    return payload
                self._read(channel)
                await waiter
        finally:
            queue.waiters.leave(waiter)
            self._left(channel, queue)

    def is_awaited(self) -> bool:
        """Whether a coroutine waits here."""
        return any(queue.waiters for queue in self._queues.values())

    async def close(self) -> None:
        """End the reading after the answer to the read under way."""
        task = self._task
        if task is not None and not task.done():
            self._stopping = True
            self._news.set()
            if self._reading:
                self._reader.interrupt()
            await asyncio.wait([task])
        if self._returns:
            await asyncio.wait([asyncio.wrap_future(future) for future in list(self._returns)])

    def abort(self) -> None:
        """End the reading at once, for a loop that is about to be closed or was closed without notice."""
        if self._task is not None and not self._task.done():
            self._reader.abort(self._task)

    def _take(self, queue: _Queue, waiter: Waiter) -> bytes | None:
        may_take = waiter.woken or queue.waiters.is_first(waiter)
        if waiter.ready:
            waiter.rearm()
        while may_take and queue.held:
            held = queue.held.popleft()
            if held.generation != self._shard.epoch.generation:
                continue
            if held.deadline <= monotonic():
                self._context.statistics.count("expired")
                continue
            return held.entry.payload
        return None

    def _read(self, channel: str) -> None:
        if self._task is None or self._task.done():
            self._stopping = False
            self._reader = self._store.reader(self._shard)
            self._task = start_task(self._loop, keep_going(_WHAT, self._run, self._context.statistics.count))
        elif self._reading:
            if channel not in self._reading:
                self._reader.interrupt()
        else:
            self._news.set()

    def _left(self, channel: str, queue: _Queue) -> None:
        if queue.waiters:
            if queue.held:
                queue.waiters.wake_next(Waker(running()))
            return
        if channel not in self._reading or self._loop.is_closed():
            if queue.held:  # without, it stays until the next read, for a consumer that comes back
                self._give_up(channel, queue)
        elif queue.held:
            # What the read returns belongs behind these messages, so all are put back together, after the read. Put
            # back now, these would be read again.
            self._reader.interrupt()
        else:
            call_later(self._loop, LINGER, lambda: self._wake_if_unwanted(channel))

    def _wake_if_unwanted(self, channel: str) -> None:
        queue = self._queues.get(channel)
        if channel in self._reading and (queue is None or not queue.waiters):
            self._reader.interrupt()

    def _give_up(self, channel: str, queue: _Queue) -> None:
        """Put back what is held for `channel`: nobody waits on it any more."""
        if queue.held:
            self._put_back(channel, queue.held)
            queue.held.clear()
        if self._queues.get(channel) is queue:
            del self._queues[channel]

    def _give_up_unwanted(self) -> None:
        for channel, queue in list(self._queues.items()):
            if not queue.waiters:
                self._give_up(channel, queue)

    async def _run(self) -> None:
        reader = self._reader
        try:
            while not self._stopping and not reader.cancelled:
                if self._returns:
                    # What returns to the head of a queue must be there before the next read.
                    await asyncio.wait([asyncio.wrap_future(future) for future in list(self._returns)])
                    continue
                wanted = [name for name, queue in self._queues.items() if len(queue.held) < len(queue.waiters)]
                if not wanted:
                    self._news.clear()
                    await self._news.wait()
                    continue
                self._reading = frozenset(wanted)
                try:
                    batch = await reader.read(wanted, 1)
                except ReadingLost as error:
                    self._reading = frozenset()
                    self._give_up_unwanted()
                    await reader.pause(error)
                    continue
                self._reading = frozenset()
                if batch is not None:
                    with self._guard:  # an error may cost this message, but not stop the reading
                        await self._intake.take(reader, batch.entries, partial(self._keep, batch.source))
                    await asyncio.sleep(0)  # its consumer takes it, and mostly comes back for the next one
                self._give_up_unwanted()
        finally:
            self._reading = frozenset()
            self._give_up_unwanted()
            await reader.close()

    def _keep(self, channel: str, taken: Taken) -> None:
        queue = self._queues.pop(channel, None)
        if queue is None:
            self._put_back(channel, [taken])
            return
        self._queues[channel] = queue
        queue.held.append(taken)
        queue.waiters.wake_next(Waker(self._loop))

    def _put_back(self, channel: str, messages: Iterable[Taken]) -> None:
        context, now = self._context, monotonic()
        returning = []
        for held in messages:
            if held.deadline <= now:
                context.statistics.count("expired")
            else:
                returning.append(held)

        async def put_back() -> None:
            while returning:
                held = returning[-1]
                try:
                    await self._store.put_back(self._shard, channel, held.entry, held.deadline - monotonic())
                except RemoteUnavailable as error:
                    context.statistics.count("dead")
                    warn(("put back", channel), f"A message of {channel} lost its reader and is lost: {error}")
                returning.pop()

        def ended(future: concurrent.futures.Future[None]) -> None:
            self._returns.discard(future)
            if returning:  # the thread ended first, or does not run
                context.statistics.count("dead", len(returning))

        future = io_thread.current().submit(put_back)
        self._returns.add(future)
        future.add_done_callback(ended)
