# SPDX-License-Identifier: BSD-3-Clause
"""The subscription of a process to a shard, for the process's own messages and its groups there.

It belongs to the I/O thread at first, then to the first event loop that stays in `receive()`, and again to the thread
when that loop ends. A subscription cannot change its loop, so the next term subscribes and publishes a *mark* to the
process. Both terms find the mark at the same place among all messages. The old term delivers the messages before it,
the new term those behind it. Nothing is lost, repeated or reordered.

If the server or the loop of the subscription is gone, that fails and messages are missed: an outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from hybrid_layer import identity
from hybrid_layer.clock import boottime
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.loops import call_in
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.heartbeat import Heartbeat
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Question, Store, Subscription, Take
from hybrid_layer.remote.delivery.subscribed_groups import SubscribedGroups
from hybrid_layer.remote.delivery.terms import PATIENCE, Term, Terms
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.remote.runtime.backoff import Backoff, ReadingLost
from hybrid_layer.supervision import Guard, keep_going, report, start_task
from hybrid_layer.timers import Timer, call_later, time_limit

_SETTLE = 0.1
"""Seconds after which a loop that waits in `receive()` again, or still, counts as one that stays."""
_WATCH = 1.0
"""Seconds between two checks by a waiting loop that the loop of the subscription still runs."""
_WHAT = "the subscriber"


class Subscriber:
    """One per shard. Subscribes to `groups` and gives to `take` what is published.

    `on_begin` is called with each new connection: its messages were published after the given time, on `boottime`.
    """

    def __init__(
        self,
        context: Context,
        store: Store,
        shard: Shard,
        heartbeat: Heartbeat,
        outages: Outages,
        groups: SubscribedGroups,
        take: Take,
        on_begin: Callable[[float], None],
    ) -> None:
        self._context = context
        self._store = store
        self._shard = shard
        self._heartbeat = heartbeat
        self._outages = outages
        self._groups = groups
        self._take = take
        self._on_begin = on_begin
        self._terms = Terms(shard, outages, lambda: io_thread.current().settle(self))
        self._watches: dict[asyncio.AbstractEventLoop, Timer] = {}

    # What the layer calls, in any loop and thread

    def settle(self) -> None:
        """Subscribe in the background, and stay subscribed."""
        io_thread.current().settle(self)

    async def confirm(self) -> None:
        """Wait until the server has confirmed the subscription. Raises `RemoteUnavailable` within the timeout."""
        await self.ask(None, lambda: None)

    async def ask(self, group: str | None, on_answer: Callable[[], None]) -> None:
        """Subscribe to `group`, or wait for an answer alone. Raises `RemoteUnavailable` within the timeout.

        `on_answer` is called when the answer arrives, in its place among the messages.
        """
        loop, timeout = asyncio.get_running_loop(), self._context.options.timeout
        future: asyncio.Future[Exception | None] = loop.create_future()

        def finish(refusal: Exception | None) -> None:
            call_in(loop, lambda: None if future.done() else future.set_result(refusal))

        def answered() -> None:
            on_answer()
            finish(None)

        question = Question(group, answered, finish)
        self.submit(question)
        try:
            async with time_limit(timeout):
                refusal = await future
        except TimeoutError:
            raise self._shard.unavailable(self._terms.cause or f"no answer within {timeout} s") from None
        finally:
            self._terms.cancel(question)
        if refusal is not None:
            raise refusal

    def submit(self, question: Question) -> None:
        """Ask without waiting for the answer."""
        self._terms.submit(question)

    def marked(self, mark: bytes) -> None:
        """End the current term: `mark` arrived over its connection."""
        self._terms.marked(mark)

    def drop(self, group: str) -> None:
        """End the subscription to `group`, unless it is wanted again."""
        term = self._terms.current
        if term is not None and term.is_open():
            call_in(term.loop, lambda: self._drop(term, [group]))

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Consider a move to `loop`, which runs here: a coroutine waits there."""
        term = self._terms.current
        if (term is None or term.loop is not loop) and loop not in self._watches:
            for other in [other for other in self._watches if other.is_closed()]:
                self._watches.pop(other, None)
            self._watches[loop] = call_later(loop, _SETTLE, lambda: self._check(loop))

    async def close(self) -> None:
        """Hand over from the running loop to the I/O thread, if the subscription belongs to this loop."""
        loop = asyncio.get_running_loop()
        watch = self._watches.pop(loop, None)
        if watch is not None:
            watch.cancel()
        for term in (self._terms.next, self._terms.current):
            if term is not None and term.loop is loop and not term.in_thread and term.task is not None:
                term.task.cancel()
                await asyncio.wait([term.task])

    def abort(self) -> None:
        """End everything, from any thread."""
        self._terms.ended = True
        io_thread.current().residents.discard(self)
        for term in (self._terms.next, self._terms.current):
            if term is not None:
                term.abort()

    def start(self) -> None:
        """Begin in the I/O thread's loop, if there is no subscription. See `io_thread.Resident`."""
        terms = self._terms
        with terms.lock:
            term = terms.current
            if not terms.ended and terms.next is None and (term is None or term.leaving):
                self._begin()

    # Which loop the subscription belongs to

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watches.pop(loop, None)
        if not self._context.inbox.is_awaited(loop):
            return
        with Guard(_WHAT, self._context.statistics.count):
            if self._is_served(loop):
                return
        self._watches[loop] = call_later(loop, _WATCH, lambda: self._check(loop))

    def _is_served(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the subscription belongs to `loop`, the running one. Begins to move it there if it should."""
        terms = self._terms
        with terms.lock:
            term = terms.current
            if term is not None and term.is_stuck():
                terms.abandon(term)
                term = None
            if terms.next is None and not terms.ended:
                if term is None or (term.in_thread and term.is_open()):
                    self._begin()
                else:
                    return term.loop is loop
            return False

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        term = Term(loop)
        self._terms.add(term)
        term.task = start_task(loop, self._run(term))

    async def _run(self, term: Term) -> None:
        on_loop_end, end = self._context.loops.get().on_loop_end, lambda: self._abort(term)
        on_loop_end.append(end)
        try:
            await keep_going(_WHAT, partial(self._listen_on, term), self._context.statistics.count)
        finally:
            on_loop_end.remove(end)
            self._terms.vacate(term)

    async def _listen_on(self, term: Term) -> None:
        """Listen over one connection after the other, until another term takes over."""
        backoff = Backoff(self._shard.label)
        while True:
            try:
                lost = await self._listen(term, backoff)
            except Exception as error:
                if not self._terms.stays(term, f"an unexpected error: {error!r}"):
                    return report(_WHAT, error, self._context.statistics.count)
                raise
            if lost is None or not self._terms.stays(term, str(lost)):
                return
            await backoff.pause(lost)

    async def _listen(self, term: Term, backoff: Backoff) -> ReadingLost | None:
        """Listen over one connection. Returns how it was lost, or None after a hand-over."""
        on_idle = partial(self._tidy, term)
        subscription = term.subscription = self._store.subscription(self._shard, self._take, on_idle)
        try:
            await self._join(term, subscription)
            backoff.failures = 0
            await self._serve(term, subscription)
        except ReadingLost as error:
            return error
        finally:
            await subscription.close()
        return None

    def _tidy(self, term: Term) -> None:
        if term.subscription is not None:
            self._drop(term, term.subscription.groups.difference(self._groups.all()))

    def _drop(self, term: Term, groups: Iterable[str]) -> None:
        """Unsubscribe from those of `groups` that are not wanted."""
        subscription = term.subscription
        if term.is_open() and subscription is not None:
            unwanted = [each for each in groups if each in subscription.groups and each not in self._groups]
            subscription.unsubscribe(unwanted)

    async def _join(self, term: Term, subscription: Subscription) -> None:
        """Connect and subscribe, and take over from the term that delivers now, if there is one."""
        takes_over = self._terms.next is term
        await subscription.open()
        if takes_over:
            subscription.take = lambda kind, group, what: None
        since = boottime()
        await subscription.subscribe(self._groups.all())
        try:
            # A flush that was missed meanwhile must be learnt before anything is delivered.
            await self._heartbeat.renew_process(self._shard)
            if takes_over:
                await self._take_over(term, subscription)
        except RemoteUnavailable as error:
            raise ReadingLost(str(error)) from None
        self._terms.delivers(term)
        subscription.take = self._take
        self._on_begin(since)
        self._terms.ask_all(term)
        self._outages.back(self._shard)
        if term.leaving:  # it was cancelled while it took over
            self.settle()

    async def _take_over(self, term: Term, subscription: Subscription) -> None:
        mark = identity.random_id().encode()
        previous, is_live = self._terms.end_at(mark)
        found = asyncio.Event()
        subscription.take = lambda kind, group, what: found.set() if what == mark else None
        # To the groups that the other term was asked for since. And to the process's own messages again, since whatever
        # cut off the other term may have cut off this one, too.
        await subscription.subscribe([group for group in self._groups.all() if group not in subscription.groups])
        if previous is None or not is_live:
            return
        # From now on, the previous term may end at any moment. So a cancellation has to wait until this one delivers.
        # Otherwise nobody would read what comes behind the mark.
        limit = call_later(term.loop, self._context.options.timeout, term.abort)
        try:
            await term.outlast(io_thread.current().submit(lambda: self._store.mark(self._shard, mark)))
            while not found.is_set():
                await term.read(subscription)
            patience = call_later(term.loop, PATIENCE, lambda: self._terms.abandon(previous))
            try:
                await term.outlast(previous.gone)
            finally:
                patience.cancel()
        finally:
            limit.cancel()

    async def _serve(self, term: Term, subscription: Subscription) -> None:
        while not term.gone.done():
            await term.read(subscription)
            if term.leaving:
                self.settle()

    def _abort(self, term: Term) -> None:
        """End `term`: its loop is about to be closed or was closed without notice."""
        if term.task is None or term.task.done():
            return
        if term.loop.is_closed():
            self._terms.vacate(term)
        term.abort()
