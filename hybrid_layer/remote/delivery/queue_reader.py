"""Readers of normal channels: one per event loop and shard.

A pop takes one message, and only channels on which somebody waits are popped. A message whose waiter left meanwhile
goes to the next waiter of the loop, or back to the head of its queue.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from hybrid_layer import identity
from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.inbox import Waiter, WaitQueue, Waker
from hybrid_layer.loops import running
from hybrid_layer.remote.delivery.context import Context, Shard
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.blocking_reader import LINGER, WAKE_LIFE_MS, Pops
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.entries import Entry
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.statistics import warn
from hybrid_layer.supervision import Guard, keep_going, start_task
from hybrid_layer.timers import call_later

_WHAT = "the reader of normal channels"


@dataclass(frozen=True, slots=True)
class _Held:
    """A message between its pop and its waiter."""

    entry: Entry
    raw: bytes
    deadline: float
    generation: int


@dataclass(slots=True)
class _Queue:
    """A channel that somebody waits on."""

    waiters: WaitQueue = field(default_factory=WaitQueue)
    held: deque[_Held] = field(default_factory=deque)


class QueueReader:
    """Reads one shard for the coroutines of one loop. Used in that loop only."""

    def __init__(self, context: Context, connections: Connections, shard: Shard) -> None:
        self._context = context
        self._connections = connections
        self._shard = shard
        self._loop = asyncio.get_running_loop()
        self._wake_key = shard.keys.wake(identity.random_id())
        self._queues: dict[str, _Queue] = {}
        """In the order in which they are asked for; a channel that was served goes to the end."""
        self._popping: frozenset[str] = frozenset()
        self._news = asyncio.Event()
        self._returns: set[concurrent.futures.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._guard = Guard(_WHAT, context.statistics.count)
        self._pops = self._new_pops()

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

    async def stop(self) -> None:
        """End the reading, after the pop under way is answered."""
        task = self._task
        if task is not None and not task.done():
            self._stopping = True
            self._news.set()
            if self._popping:
                self._wake()
            await asyncio.wait([task])
        if self._returns:
            await asyncio.wait([asyncio.wrap_future(future) for future in list(self._returns)])

    def abort(self) -> None:
        """End the reading at once, for a loop that is about to be closed, or was closed without notice."""
        if self._task is None or self._task.done():
            return
        if self._loop.is_closed():
            # The pop under way must not take a message: nobody would ever read its answer.
            if self._popping:
                self._wake()
            self._pops.cut(self._task)
            return
        self._pops.give_up()
        self._task.cancel()

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
            self._pops = self._new_pops()
            self._task = start_task(self._loop, keep_going(_WHAT, self._run, self._context.statistics.count))
        elif self._popping:
            if channel not in self._popping:
                self._wake()
        else:
            self._news.set()

    def _left(self, channel: str, queue: _Queue) -> None:
        if queue.waiters:
            if queue.held:
                queue.waiters.wake_next(Waker(running()))
            return
        if channel not in self._popping or self._loop.is_closed():
            self._give_up(channel, queue)
        elif queue.held:
            # What the pop brings comes behind these, so they go back together; and put back now, they would be popped.
            self._wake()
        else:
            call_later(self._loop, LINGER, lambda: self._wake_if_unwanted(channel))

    def _wake_if_unwanted(self, channel: str) -> None:
        queue = self._queues.get(channel)
        if channel in self._popping and (queue is None or not queue.waiters):
            self._wake()

    def _give_up(self, channel: str, queue: _Queue) -> None:
        """Nobody waits on `channel` any more: what is held for it goes back."""
        if queue.held:
            self._put_back(channel, queue.held)
            queue.held.clear()
        if self._queues.get(channel) is queue:
            del self._queues[channel]

    def _give_up_unwanted(self) -> None:
        for channel, queue in list(self._queues.items()):
            if not queue.waiters:
                self._give_up(channel, queue)

    def _wake(self) -> None:
        # Through the I/O thread: also when the loop ends and its own connections with it.
        command = scripts.WAKE.command([self._wake_key], WAKE_LIFE_MS)
        self._connections.run_later(self._shard.number, command)

    def _new_pops(self) -> Pops:
        options = self._context.options
        return Pops(self._shard.host, self._shard.clock, options.block_time, options.timeout, self._wake)

    async def _run(self) -> None:
        pops = self._pops
        try:
            while not self._stopping and not pops.cancelled:
                if self._returns:
                    # What goes back to the head must be there before the next pop.
                    await asyncio.wait([asyncio.wrap_future(future) for future in list(self._returns)])
                    continue
                wanted = [name for name, queue in self._queues.items() if len(queue.held) < len(queue.waiters)]
                if not wanted:
                    self._news.clear()
                    await self._news.wait()
                    continue
                self._popping = frozenset(wanted)
                try:
                    answer = await pops.pop([self._wake_key, *map(self._shard.keys.queue, wanted)], 1)
                except ReadingLost as error:
                    self._popping = frozenset()
                    self._give_up_unwanted()
                    await pops.pause(error)
                    continue
                self._popping = frozenset()
                if answer is not None and answer[0] != self._wake_key:
                    with self._guard:  # this message may be lost, its successors need not wait
                        await self._accept(pops, answer[0].rpartition("|")[2], answer[1][0])
                self._give_up_unwanted()
        finally:
            self._popping = frozenset()
            self._give_up_unwanted()
            await pops.close()

    async def _accept(self, pops: Pops, channel: str, raw: bytes) -> None:
        entry = self._context.accept(self._shard, raw)
        if entry is None and await self._context.is_present(self._shard, raw, pops):
            entry = self._context.accept(self._shard, raw)
        if entry is None:
            return
        generation = self._shard.epoch.generation
        try:
            await pops.make_sure([entry.stamp_ms])
        finally:
            left = self._shard.clock.left(entry.stamp_ms)
            if left <= 0:
                self._context.statistics.count("expired")
            else:
                self._keep(channel, _Held(entry, raw, monotonic() + left, generation))

    def _keep(self, channel: str, held: _Held) -> None:
        queue = self._queues.pop(channel, None)
        if queue is None:
            self._put_back(channel, [held])
            return
        self._queues[channel] = queue
        queue.held.append(held)
        queue.waiters.wake_next(Waker(self._loop))

    def _put_back(self, channel: str, messages: Iterable[_Held]) -> None:
        keys = [self._shard.keys.queue(channel), self._shard.keys.epoch]
        context, shard, now = self._context, self._shard, monotonic()
        commands = []
        for held in messages:
            if held.deadline <= now:
                context.statistics.count("expired")
            else:
                left_ms = math.ceil((held.deadline - now) * 1000)
                commands.append(scripts.PUT_BACK.command(keys, held.raw, held.entry.epoch, left_ms))

        async def put_back() -> None:
            while commands:
                try:
                    await self._connections.run(shard.number, commands[-1])
                except RemoteUnavailable as error:
                    context.statistics.count("dead")
                    warn(("put back", channel), f"A message of {channel} that lost its reader is lost: {error}")
                commands.pop()

        def ended(future: concurrent.futures.Future[None]) -> None:
            self._returns.discard(future)
            if commands:  # the thread ended before, or does not run
                context.statistics.count("dead", len(commands))

        future = io_thread.current().submit(put_back)
        self._returns.add(future)
        future.add_done_callback(ended)
