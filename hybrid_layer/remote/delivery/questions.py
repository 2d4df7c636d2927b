"""What is asked over the subscription of a process, wherever that lives, and waits while there is none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from hybrid_layer.loops import call_in, running
from hybrid_layer.remote.delivery.store import Question
from hybrid_layer.remote.delivery.subscriber_term import SubscriberTerm
from hybrid_layer.timers import time_limit


class Questions:
    """Those of one subscriber, whose `lock` they share. `find_term` tells which term to ask, or None for later."""

    def __init__(self, lock: threading.RLock, find_term: Callable[[], SubscriberTerm | None]) -> None:
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

    def ask_all(self, term: SubscriberTerm) -> None:
        """Ask `term` what waits. To be called in its loop."""
        with self._lock:
            questions, self._unasked = list(self._unasked), {}
        for question in questions:
            self._ask_now(term, question)

    def take_back(self, term: SubscriberTerm) -> None:
        """What `term` was asked and did not hear the answer of, the next one is asked."""
        if term.subscription is not None:
            self._unasked = {**dict.fromkeys(term.subscription.unanswered()), **self._unasked}

    def _ask_now(self, term: SubscriberTerm, question: Question) -> None:
        with self._lock:
            is_here = self._find_term() is term
        if not is_here:  # it was lost, or is being handed over
            self.put(question)
        elif term.subscription is not None and not question.cancelled:
            term.subscription.ask(question)
