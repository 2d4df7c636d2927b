"""Who listens for a process: one connection, subscribed to the channel of the process and to its groups.

It lives in the first event loop that stays in `receive()`, before that in the I/O thread, and goes back there when that
loop ends. A connection cannot change its loop; so the next one subscribes, then publishes a *mark* to the process. Both
find the mark at the same place among all messages: the old one delivers what stands before it, the new one what stands
behind. Nothing is lost, repeated or reordered.

Where that is not possible, since the server, or the loop that listens, is gone, messages are missed: an outage.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial

from redis.exceptions import ResponseError

from hybrid_layer import identity
from hybrid_layer.clock import boottime
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.loops import call_in, running
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.heartbeat import Keeper
from hybrid_layer.remote.delivery.outages import Outages
from hybrid_layer.remote.delivery.subscriber_term import Seat
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.connections.subscription import Audience, Listening, Question, verbs_of
from hybrid_layer.remote.redis.server.errors import unavailable
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.remote.runtime.backoff import Backoff, ReadingLost
from hybrid_layer.supervision import Guard, keep_going, report, start_task
from hybrid_layer.timers import Timer, call_later, time_limit

_SETTLE = 0.1
"""Seconds after which a loop that waits in `receive()` again, or still, is taken for one that stays."""
_WATCH = 1.0
"""Seconds between two looks of a waiting loop whether the listening loop still runs."""
_PATIENCE = 1.0
"""Seconds that both sides of a hand-over wait for each other."""

_WHAT = "the listener of pub/sub"


class Listener:
    """One per process and layer. What comes is for `audience`."""

    def __init__(
        self,
        context: Context,
        connections: Connections,
        keeper: Keeper,
        outages: Outages,
        audience: Audience,
    ) -> None:
        self._context = context
        self._connections = connections
        self._keeper = keeper
        self._outages = outages
        self._audience = audience
        self._lock = threading.RLock()
        self._seat: Seat | None = None
        self._next: Seat | None = None
        """Takes over from `_seat`."""
        self._unasked: dict[Question, None] = {}
        """In order. What is to be asked once a connection is there."""
        self._watches: dict[asyncio.AbstractEventLoop, Timer] = {}
        self._cause, self._disposed = "", False

    # What the layer calls, in any loop and thread

    async def open(self) -> None:
        """Listen from now on. Returns when the server has confirmed it."""
        io_thread.current().settle(self)
        await self.ask(("PING", "open"), lambda: None)

    async def ask(self, command: tuple[str, ...], on_answer: Callable[[], None]) -> None:
        """Run a command on the connection. Raises `RemoteUnavailable` within the timeout.

        `on_answer` is called when the answer comes, in its place among the messages.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResponseError | None] = loop.create_future()

        def tell(refusal: ResponseError | None) -> None:
            call_in(loop, lambda: None if future.done() else future.set_result(refusal))

        def answered() -> None:
            on_answer()
            tell(None)

        question = Question(command, answered, tell)
        host, timeout = self._context.home.host, self._context.options.timeout
        self.put(question)
        try:
            async with time_limit(timeout):
                refusal = await future
        except TimeoutError:
            raise unavailable(host, self._cause or f"no answer within {timeout} s") from None
        finally:
            question.cancelled = True
            self._unasked.pop(question, None)
        if refusal is not None:
            raise unavailable(host, refusal)

    def put(self, question: Question) -> None:
        """As `ask`, without waiting."""
        with self._lock:
            seat = self._seat
            if seat is not None and seat.is_stuck():
                self._abandon(seat)
                io_thread.current().settle(self)
                seat = None
            if seat is None or not seat.is_open():
                self._unasked[question] = None
                return
        if seat.loop is running():
            self._ask_now(seat, question)
        else:
            call_in(seat.loop, lambda: self._ask_now(seat, question))

    def drop(self, name: str) -> None:
        """Nobody wants `name` any more."""
        seat = self._seat
        if seat is not None and seat.is_open():
            call_in(seat.loop, lambda: self._drop_now(seat, name))

    def ensure(self, loop: asyncio.AbstractEventLoop) -> None:
        """Somebody waits in `loop`, which runs here: perhaps the connection should live there."""
        seat = self._seat
        if (seat is None or seat.loop is not loop) and loop not in self._watches:
            for other in [other for other in self._watches if other.is_closed()]:
                self._watches.pop(other, None)
            self._watches[loop] = call_later(loop, _SETTLE, lambda: self._look(loop))

    async def stop(self) -> None:
        """Hand over from the running loop to the I/O thread, if it listens here."""
        loop = asyncio.get_running_loop()
        watch = self._watches.pop(loop, None)
        if watch is not None:
            watch.cancel()
        for seat in (self._next, self._seat):
            if seat is not None and seat.loop is loop and not seat.in_thread and seat.task is not None:
                seat.task.cancel()
                await asyncio.wait([seat.task])

    def dispose(self) -> None:
        """End everything, from any thread."""
        self._disposed = True
        io_thread.current().leave(self)
        for seat in (self._next, self._seat):
            if seat is not None:
                self._end(seat)

    def start(self) -> None:
        """Listen in the I/O thread's loop, if nobody else does. See `io_thread.Resident`."""
        with self._lock:
            seat = self._seat
            if not self._disposed and self._next is None and (seat is None or seat.leaving):
                self._begin()

    def marked(self, mark: bytes) -> None:
        """A mark came over the connection that delivers."""
        with self._lock:
            seat = self._seat
            if seat is not None and seat.mark == mark:
                self._retire(seat)

    # Questions

    def _ask_now(self, seat: Seat, question: Question) -> None:
        with self._lock:
            is_here = self._seat is seat and seat.is_open()
        if not is_here:  # it was lost, or is being handed over
            self.put(question)
        elif seat.listening is not None and not question.cancelled:
            seat.listening.ask(question)

    def _ask_all(self, seat: Seat) -> None:
        with self._lock:
            questions, self._unasked = list(self._unasked), {}
        for question in questions:
            self._ask_now(seat, question)

    def _take_back(self, seat: Seat) -> None:
        """What `seat` was asked and did not hear the answer of, another connection is asked again."""
        if seat.listening is not None:
            self._unasked = {**dict.fromkeys(seat.listening.unanswered()), **self._unasked}

    def _drop_now(self, seat: Seat, name: str) -> None:
        listening = seat.listening
        if seat.is_open() and listening is not None and name in listening.names and not self._audience.wants(name):
            listening.unsubscribe([name])

    def _tidy(self, seat: Seat) -> None:
        if seat.is_open() and seat.listening is not None:
            seat.listening.unsubscribe(list(seat.listening.names.difference(self._audience.names())))

    # Where it listens

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watches.pop(loop, None)
        if not self._context.inbox.is_awaited(loop):
            return
        with Guard(_WHAT, self._context.statistics.count):
            if self._is_served(loop):
                return
        self._watches[loop] = call_later(loop, _WATCH, lambda: self._look(loop))

    def _is_served(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the connection lives in `loop`, the running one. It begins to, if it should."""
        with self._lock:
            seat = self._seat
            if seat is not None and seat.is_stuck():
                self._abandon(seat)
                seat = None
            if self._next is None and not self._disposed:
                if seat is None or (seat.in_thread and seat.is_open()):
                    self._begin()
                else:
                    return seat.loop is loop
            return False

    def _begin(self) -> None:
        """Listen in the running loop: at once, or after whoever listens now."""
        loop = asyncio.get_running_loop()
        seat = Seat(loop)
        if self._seat is not None and self._seat.live:
            self._next = seat
        else:
            self._seat = seat
        seat.task = start_task(loop, self._run(seat))

    async def _run(self, seat: Seat) -> None:
        context = self._context
        stoppers, stop = self._connections.loops.get().stoppers, lambda: self._abort(seat)
        stoppers.append(stop)
        try:
            await keep_going(_WHAT, partial(self._listen_on, seat), context.statistics.count)
        finally:
            stoppers.remove(stop)
            self._vacate(seat)

    async def _listen_on(self, seat: Seat) -> None:
        """Over one connection after the other, until another seat takes over."""
        backoff = Backoff(self._context.home.host.label)
        while True:
            try:
                lost = await self._listen(seat, backoff)
            except Exception as error:
                if not self._stays(seat, ReadingLost(f"an unexpected error: {error!r}")):
                    return report(_WHAT, error, self._context.statistics.count)
                raise
            if lost is None or not self._stays(seat, lost):
                return
            await backoff.pause(lost)

    async def _listen(self, seat: Seat, backoff: Backoff) -> ReadingLost | None:
        """Over one connection. Returns how it was lost, or None if it was handed over."""
        home, options, count = self._context.home, self._context.options, self._context.statistics.count
        look = partial(self._tidy, seat)
        listening = seat.listening = Listening(
            home.host, options.timeout, options.block_time, self._audience.take, look, count
        )
        try:
            await self._join(seat, listening)
            backoff.succeeded()
            await self._serve(seat, listening)
        except ReadingLost as error:
            return error
        finally:
            await listening.close()
        return None

    async def _join(self, seat: Seat, listening: Listening) -> None:
        """Connect and subscribe, and take over from who listens now, if somebody does."""
        await listening.open()
        if self._next is seat:
            listening.take = lambda channel, text: None
        since = boottime()
        await listening.subscribe(self._audience.names())
        try:
            # An epoch that moved while nobody listened is learnt before anything is delivered.
            await self._keeper.renew_home()
            if self._next is seat:
                async with time_limit(self._context.options.timeout):
                    await self._take_over(seat, listening)
        except (RemoteUnavailable, TimeoutError) as error:
            raise ReadingLost(str(error) or "the hand-over took too long") from None
        with self._lock:
            self._seat, seat.live = seat, True
            if self._next is seat:
                self._next = None
        listening.take = self._audience.take
        self._audience.begins(since)
        self._ask_all(seat)
        self._outages.back()

    async def _take_over(self, seat: Seat, listening: Listening) -> None:
        context = self._context
        mark = b"m|" + identity.random_id().encode()
        with self._lock:
            previous = self._seat
            if previous is not None:
                previous.mark = mark
            was_lost = previous is None or not previous.live
        found = asyncio.Event()
        listening.take = lambda channel, text: found.set() if text == mark else None
        # What the other one was asked since; and one name again, since what cut that off may have cut this off too.
        own = context.home.keys.process(context.name)
        await listening.subscribe([own, *(name for name in self._audience.names() if name not in listening.names)])
        if previous is None or was_lost:
            return
        await self._connections.run(context.home.number, (verbs_of(context.home.host).publish, own, mark))
        while not found.is_set():
            await listening.read()
        try:
            async with time_limit(_PATIENCE):
                await asyncio.wrap_future(previous.gone)
        except TimeoutError:
            self._abandon(previous)

    async def _serve(self, seat: Seat, listening: Listening) -> None:
        while not seat.gone.done():
            try:
                await listening.read()
            except asyncio.CancelledError:
                if seat.given_up or seat.leaving or seat.in_thread:
                    raise
                seat.leaving = True
                call_later(seat.loop, _PATIENCE, lambda: self._end(seat))
                io_thread.current().settle(self)

    def _retire(self, seat: Seat) -> None:
        seat.live = False
        self._take_back(seat)
        if not seat.gone.done():
            seat.gone.set_result(None)

    def _stays(self, seat: Seat, error: ReadingLost) -> bool:
        """Whether `seat` tries again, after its connection was lost."""
        context = self._context
        self._cause = str(error)
        with self._lock:
            if self._next is seat:
                return False  # the other one stays
            seat.live = False
            self._take_back(seat)
        self._outages.lost()
        self._keeper.connection_lost(context.home.number)
        with self._lock:
            return self._next is None and not seat.leaving and not seat.gone.done()

    def _vacate(self, seat: Seat) -> None:
        """`seat` ends."""
        with self._lock:
            self._retire(seat)
            if self._next is seat:
                self._next = None
                self._keep(self._seat)
            elif self._seat is seat:
                self._seat = None
            nobody = self._seat is None and self._next is None and not self._disposed
        if nobody:
            self._outages.lost()
            if not seat.in_thread:  # else the thread ends, and starts all that it had when it is started again
                io_thread.current().settle(self)

    def _keep(self, seat: Seat | None) -> None:
        """Nobody takes over from `seat`."""
        if seat is None or seat.gone.done():
            self._seat = None
            return
        seat.mark = b""
        call_in(seat.loop, lambda: self._ask_all(seat))

    def _abandon(self, seat: Seat) -> None:
        """Another one listens in place of `seat`, whose loop does not run: what is under way to it is lost."""
        with self._lock:
            self._retire(seat)
            if self._seat is seat:
                self._seat = None
        self._outages.lost()
        self._end(seat)

    def _abort(self, seat: Seat) -> None:
        """Its loop is about to be closed, or was closed without notice."""
        if seat.task is None or seat.task.done():
            return
        if seat.loop.is_closed():
            self._vacate(seat)
        self._end(seat)

    def _end(self, seat: Seat) -> None:
        seat.given_up = True
        task = seat.task
        if task is not None and not call_in(seat.loop, task.cancel) and seat.listening is not None:
            seat.listening.cut(task)
