"""Which term of the subscriber delivers, and which one is about to take over. Any thread may call."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hybrid_layer.loops import call_in
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.questions import Questions
from hybrid_layer.remote.delivery.subscriber_term import SubscriberTerm


class Terms:
    """Those of one subscriber. `on_vacancy` is called when there is none any more."""

    def __init__(self, context: Context, outages: Outages, on_vacancy: Callable[[], None]) -> None:
        self._context = context
        self._outages = outages
        self._on_vacancy = on_vacancy
        self.lock = threading.RLock()
        self.current: SubscriberTerm | None = None
        self.next: SubscriberTerm | None = None
        """Takes over from `current`."""
        self.questions = Questions(self.lock, self.open_term)
        self.cause = ""
        """Why the last connection was lost."""
        self.ended = False
        """The layer is garbage: no term begins any more."""

    def open_term(self) -> SubscriberTerm | None:
        """The term that may be asked. One whose loop does not run is given up."""
        with self.lock:
            term = self.current
            if term is not None and term.is_stuck():
                self.abandon(term)
                self._on_vacancy()
                return None
            return term if term is not None and term.is_open() else None

    def add(self, term: SubscriberTerm) -> None:
        """`term` begins: at once, or after the one that delivers now."""
        if self.current is not None and self.current.live:
            self.next = term
        else:
            self.current = term

    def end_at(self, mark: bytes) -> tuple[SubscriberTerm | None, bool]:
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

    def delivers(self, term: SubscriberTerm) -> None:
        """`term` is subscribed to everything, and the one before has ended."""
        with self.lock:
            self.current, term.live = term, True
            if self.next is term:
                self.next = None

    def stays(self, term: SubscriberTerm, cause: str) -> bool:
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

    def vacate(self, term: SubscriberTerm) -> None:
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

    def abandon(self, term: SubscriberTerm) -> None:
        """Another term takes the place of `term`, whose loop does not run: what is under way to it is lost."""
        with self.lock:
            self._retire(term)
            if self.current is term:
                self.current = None
        self._outages.lost()
        term.end()

    def _retire(self, term: SubscriberTerm) -> None:
        term.live = False
        self.questions.take_back(term)
        if not term.gone.done():
            term.gone.set_result(None)

    def _keep(self, term: SubscriberTerm | None) -> None:
        """No term takes over from `term`."""
        if term is None or term.gone.done():
            self.current = None
            return
        term.mark = b""
        call_in(term.loop, lambda: self.questions.ask_all(term))
