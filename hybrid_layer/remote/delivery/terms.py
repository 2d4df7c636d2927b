"""One event loop's turns at being subscribed for a process: which one delivers, which takes over, what they are asked.

Any thread may call what is here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable

from hybrid_layer.loops import call_in, running
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.store import Question, Subscription
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.timers import time_limit


class Term:
    """The subscriptions in one loop, one connection after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.in_thread = io_thread.is_here()
        self.task: asyncio.Task[None] | None = None
        self.subscription: Subscription | None = None
        self.live = False
        """Its connection is subscribed to everything, and delivers."""
        self.mark = b""
        """At which it ends; set while another term takes over."""
        self.leaving = False
        """Its loop ends: another term is to take over."""
        self.given_up = False
        """The next cancellation ends it, whatever it misses."""
        self.gone: concurrent.futures.Future[None] = concurrent.futures.Future()
        """Done when it delivers nothing any more."""

    def is_open(self) -> bool:
        """Whether questions may be asked of it."""
        return self.live and not self.mark

    def is_stuck(self) -> bool:
        """Whether its loop does not run. That of the I/O thread does, or will as soon as a fork is over."""
        return not self.in_thread and not self.loop.is_running()

    def abort(self) -> None:
        """End it at once, from any thread."""
        self.given_up = True
        task = self.task
        if task is not None and not call_in(self.loop, task.cancel) and self.subscription is not None:
            self.subscription.abort(task)


class Questions:
    """What is asked over the subscription of a process, and waits while there is none. The terms share `lock`.

    `find_term` tells which term to ask, or None for later.
    """

    def __init__(self, lock: threading.RLock, find_term: Callable[[], Term | None]) -> None:
        self._lock = lock
        self._find_term = find_term
        self._unasked: dict[Question, None] = {}
        """In order. What is to be asked once a connection is there."""

    async def ask(self, group: str | None, on_answer: Callable[[], None], timeout: float) -> None:
        """Subscribe to `group`, or get an answer alone. Raises the refusal, or `TimeoutError`.

        `on_answer` is called when the answer comes, in its place among the messages.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Exception | None] = loop.create_future()

        def tell(refusal: Exception | None) -> None:
            call_in(loop, lambda: None if future.done() else future.set_result(refusal))

        def answered() -> None:
            on_answer()
            tell(None)

        question = Question(group, answered, tell)
        self.put(question)
        try:
            async with time_limit(timeout):
                refusal = await future
        finally:
            question.cancelled = True
            self._unasked.pop(question, None)
        if refusal is not None:
            raise refusal

    def put(self, question: Question) -> None:
        """Ask, without waiting for the answer."""
        with self._lock:
            term = self._find_term()
            if term is None:
                self._unasked[question] = None
                return
        if term.loop is running():
            self._ask_now(term, question)
        else:
            call_in(term.loop, lambda: self._ask_now(term, question))

    def ask_all(self, term: Term) -> None:
        """Ask `term` what waits. To be called in its loop."""
        with self._lock:
            questions, self._unasked = list(self._unasked), {}
        for question in questions:
            self._ask_now(term, question)

    def take_back(self, term: Term) -> None:
        """What `term` was asked and did not hear the answer of, the next one is asked."""
        if term.subscription is not None:
            self._unasked = {**dict.fromkeys(term.subscription.unanswered()), **self._unasked}

    def _ask_now(self, term: Term, question: Question) -> None:
        with self._lock:
            is_here = self._find_term() is term
        if not is_here:  # it was lost, or is being handed over
            self.put(question)
        elif term.subscription is not None and not question.cancelled:
            term.subscription.ask(question)


class Terms:
    """Those of one subscriber. `on_vacancy` is called when there is none any more."""

    def __init__(self, context: Context, outages: Outages, on_vacancy: Callable[[], None]) -> None:
        self._context = context
        self._outages = outages
        self._on_vacancy = on_vacancy
        self.lock = threading.RLock()
        self.current: Term | None = None
        self.next: Term | None = None
        """Takes over from `current`."""
        self.questions = Questions(self.lock, self.open_term)
        self.cause = ""
        """Why the last connection was lost."""
        self.ended = False
        """The layer is garbage: no term begins any more."""

    def open_term(self) -> Term | None:
        """The term that may be asked. One whose loop does not run is given up."""
        with self.lock:
            term = self.current
            if term is not None and term.is_stuck():
                self.abandon(term)
                self._on_vacancy()
                return None
            return term if term is not None and term.is_open() else None

    def add(self, term: Term) -> None:
        """`term` begins: at once, or after the one that delivers now."""
        if self.current is not None and self.current.live:
            self.next = term
        else:
            self.current = term

    def end_at(self, mark: bytes) -> tuple[Term | None, bool]:
        """Let the current term end at `mark`. Returns it, and whether it delivers still."""
        with self.lock:
            term = self.current
            if term is not None:
                term.mark = mark
            return term, term is not None and term.live

    def marked(self, mark: bytes) -> None:
        """`mark` came over the connection that delivers."""
        with self.lock:
            term = self.current
            if term is not None and term.mark == mark:
                self._retire(term)

    def delivers(self, term: Term) -> None:
        """`term` is subscribed to everything, and the one before has ended."""
        with self.lock:
            self.current, term.live = term, True
            if self.next is term:
                self.next = None

    def stays(self, term: Term, cause: str) -> bool:
        """Whether `term` tries again, after its connection was lost."""
        self.cause = cause
        with self.lock:
            if self.next is term:
                return False  # the other one stays
            term.live = False
            self.questions.take_back(term)
        self._outages.lost()
        self._context.home.on_lost()
        with self.lock:
            return self.next is None and not term.leaving and not term.gone.done()

    def vacate(self, term: Term) -> None:
        """`term` ends."""
        with self.lock:
            self._retire(term)
            if self.next is term:
                self.next = None
                self._keep(self.current)
            elif self.current is term:
                self.current = None
            is_vacant = self.current is None and self.next is None and not self.ended
        if is_vacant:
            self._outages.lost()
            if not term.in_thread:  # else the thread ends, and starts all that it had when it is started again
                self._on_vacancy()

    def abandon(self, term: Term) -> None:
        """Another term takes the place of `term`, whose loop does not run: what is under way to it is lost."""
        with self.lock:
            self._retire(term)
            if self.current is term:
                self.current = None
        self._outages.lost()
        term.abort()

    def _retire(self, term: Term) -> None:
        term.live = False
        self.questions.take_back(term)
        if not term.gone.done():
            term.gone.set_result(None)

    def _keep(self, term: Term | None) -> None:
        """No term takes over from `term`."""
        if term is None or term.gone.done():
            self.current = None
            return
        term.mark = b""
        call_in(term.loop, lambda: self.questions.ask_all(term))
