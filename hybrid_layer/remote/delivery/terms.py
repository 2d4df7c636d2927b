# SPDX-License-Identifier: BSD-3-Clause
"""The terms of a process's subscription, each in one event loop: which delivers, which takes over, what they are asked.

Any thread may call what is here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

from hybrid_layer.loops import call_in, running
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Question, Subscription
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.timers import call_later

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that the two terms of a hand-over wait for each other."""


class Term:
    """The subscriptions in one loop, one connection after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.in_thread = io_thread.is_here()
        self.task: asyncio.Task[None] | None = None
        self.subscription: Subscription | None = None
        self.live = False
        """Its connection is subscribed to everything and delivers."""
        self.mark = b""
        """The mark at which it ends; set while another term takes over."""
        self.leaving = False
        """Its loop is ending: another term must take over."""
        self.given_up = False
        """The next cancellation ends it, even if messages are missed."""
        self.gone: concurrent.futures.Future[None] = concurrent.futures.Future()
        """Done when it no longer delivers."""

    def is_open(self) -> bool:
        """Whether it may be asked questions."""
        return self.live and not self.mark

    def is_stuck(self) -> bool:
        """Whether its loop does not run. The I/O thread's loop runs, or will after a fork."""
        return not self.in_thread and not self.loop.is_running()

    def _goes_on(self) -> bool:
        """Whether it outlasts a cancellation: the first one, for `PATIENCE` seconds. Then another term takes over."""
        if self.given_up or self.leaving or self.in_thread:
            return False
        self.leaving = True
        call_later(self.loop, PATIENCE, self.abort)
        return True

    async def read(self, subscription: Subscription) -> None:
        """Read an item, or none in a cancellation that the term outlasts."""
        try:
            await subscription.read()
        except asyncio.CancelledError:
            if not self._goes_on():
                raise

    async def outlast(self, future: concurrent.futures.Future[T]) -> T:
        """The result of `future`, also after a cancellation that the term outlasts."""
        waiting = asyncio.wrap_future(future)
        while not waiting.done():
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError:
                if not self._goes_on():
                    raise
        return waiting.result()

    def ends_with_thread(self) -> bool:
        """Whether it ends because the I/O thread does, where it runs."""
        return self.in_thread and not self.given_up and self.task is not None and self.task.cancelling() > 0

    def abort(self) -> None:
        """End it at once, from any thread."""
        self.given_up = True
        task = self.task
        if task is not None and not call_in(self.loop, task.cancel) and self.subscription is not None:
            self.subscription.abort(task)


class Terms:
    """The terms of one subscriber, and the questions over its subscription, which wait while there is none.

    `on_vacancy` is called when there is no term left.
    """

    def __init__(self, shard: Shard, outages: Outages, on_vacancy: Callable[[], None]) -> None:
        self._shard = shard
        self._outages = outages
        self._on_vacancy = on_vacancy
        self.lock = threading.RLock()
        self.current: Term | None = None
        self.next: Term | None = None
        """Takes over from `current`."""
        self._unasked: dict[Question, None] = {}
        """Questions to ask once there is a connection, in order."""
        self.cause = ""
        """Why the last connection was lost."""
        self.ended = False
        """The layer is garbage: no further term begins."""

    # Questions

    def submit(self, question: Question) -> None:
        """Ask without waiting for the answer."""
        with self.lock:
            term = self._open_term()
            if term is None:
                self._unasked[question] = None
                return
        if term.loop is running():
            self._ask_now(term, question)
        else:
            call_in(term.loop, lambda: self._ask_now(term, question))

    def cancel(self, question: Question) -> None:
        """Call neither callback of `question` any more."""
        question.cancelled = True
        self._unasked.pop(question, None)

    def ask_all(self, term: Term) -> None:
        """Ask `term` all waiting questions. Must be called in its loop."""
        with self.lock:
            questions, self._unasked = list(self._unasked), {}
        for question in questions:
            self._ask_now(term, question)

    def _ask_now(self, term: Term, question: Question) -> None:
        if self._open_term() is not term:  # it was lost, or is being handed over
            self.submit(question)
        elif term.subscription is not None and not question.cancelled:
            term.subscription.ask(question)

    def _take_back(self, term: Term) -> None:
        """Keep the unanswered questions of `term` for the next one."""
        if term.subscription is not None:
            self._unasked = {**dict.fromkeys(term.subscription.unanswered()), **self._unasked}

    # Who takes over from whom

    def _open_term(self) -> Term | None:
        """The term that may be asked. Gives up a term whose loop does not run."""
        with self.lock:
            term = self.current
            if term is not None and term.is_stuck():
                self.abandon(term)
                self._on_vacancy()
                return None
            return term if term is not None and term.is_open() else None

    def add(self, term: Term) -> None:
        """Begin `term`: at once, or after the one that delivers now."""
        if self.current is not None and self.current.live:
            self.next = term
        else:
            self.current = term

    def end_at(self, mark: bytes) -> tuple[Term | None, bool]:
        """Let the current term end at `mark`. Returns it, and whether it still delivers."""
        with self.lock:
            term = self.current
            if term is not None:
                term.mark = mark
            return term, term is not None and term.live

    def marked(self, mark: bytes) -> None:
        """End the current term: `mark` arrived over its connection."""
        with self.lock:
            term = self.current
            if mark and term is not None and term.mark == mark:
                self._retire(term)

    def delivers(self, term: Term) -> None:
        """Make `term` the current one: it is subscribed to everything, and the one before has ended."""
        with self.lock:
            self.current, term.live = term, True
            if self.next is term:
                self.next = None

    def stays(self, term: Term, cause: str) -> bool:
        """Note that `term` lost its connection. Returns whether it tries again."""
        self.cause = cause
        with self.lock:
            if self.next is term:
                return False  # the current term stays
            term.live = False
            self._take_back(term)
        self._outages.lost(self._shard)
        self._shard.on_lost()
        with self.lock:
            return self.next is None and not term.leaving and not term.gone.done()

    def vacate(self, term: Term) -> None:
        """End `term`."""
        with self.lock:
            self._retire(term)
            if self.next is term:
                self.next = None
                self._keep(self.current)
            elif self.current is term:
                self.current = None
            is_vacant = self.current is None and self.next is None and not self.ended
        if is_vacant:
            self._outages.lost(self._shard)
            if not term.ends_with_thread():  # which starts its residents when it starts again
                self._on_vacancy()

    def abandon(self, term: Term) -> None:
        """End `term`, whose loop does not run, for another one. Messages under way to it are lost."""
        with self.lock:
            self._retire(term)
            if self.current is term:
                self.current = None
        self._outages.lost(self._shard)
        term.abort()

    def _retire(self, term: Term) -> None:
        term.live = False
        self._take_back(term)
        if not term.gone.done():
            term.gone.set_result(None)

    def _keep(self, term: Term | None) -> None:
        """Let `term` stay, since no other term takes over."""
        if term is None or term.gone.done():
            self.current = None
            return
        term.mark = b""
        call_in(term.loop, lambda: self.ask_all(term))
