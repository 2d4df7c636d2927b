# SPDX-License-Identifier: BSD-3-Clause
"""One session of a database in one event loop: how it begins and ends, its calls, deadlines, and who listens.

What is called in one turn of the loop is sent together. Nothing is ever sent twice: when the session breaks, every call
that may have reached the server fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, pq

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.postgres.hosts import Host
from hybrid_layer.remote.postgres.names import is_of_group
from hybrid_layer.remote.postgres.pipeline import Call, CallFailed, Pipeline, Rows
from hybrid_layer.remote.postgres.session import NotReady, open_session
from hybrid_layer.remote.postgres.statements import SUBSCRIBE, UNSUBSCRIBE, Argument, Statement, encoded
from hybrid_layer.remote.runtime import descriptors
from hybrid_layer.supervision import Count, Guard, apart, start_task
from hybrid_layer.timers import Timer, time_limit

_WHAT = "a connection to PostgreSQL"
Listener = Callable[[str, bytes], None]
"""Is called with the channel and the text of a notification."""

Process = tuple[int, bool]
"""The number of the process that listens; and whether it begins to, or ends."""


class Link:
    """A session. It opens itself. When it is no longer `usable`, a new object replaces it.

    Readers and subscriptions of the loop use it beside the calls: they add themselves to `users`, whose `lost` is
    called when the session breaks.
    """

    def __init__(self, host: Host, timeout: float, on_end: Callable[[Link, bool], None], count: Count) -> None:
        self.host = host
        self._timeout = timeout
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._connection: AsyncConnection | None = None
        self._pipeline: Pipeline | None = None
        self._fd = -1
        self._outbox: list[Call] = []
        self._timer: Timer | None = None
        self._writes = False
        self._is_closing = False
        self._failure: RemoteUnavailable | None = None
        self.usable = True
        self.is_open = False
        self.users: set[Any] = set()
        self._listeners: dict[str, list[Listener]] = {}
        self._guard = Guard(_WHAT, count, lambda error: self._fail(self._unavailable(repr(error))))
        self.opened: asyncio.Future[None] = self._loop.create_future()
        """Done when the session can be used; or with the error, why it cannot."""
        self.opened.add_done_callback(lambda done: None if done.cancelled() else done.exception() and None)
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._task = start_task(self._loop, self._open())

    def call(
        self,
        statement: Statement,
        arguments: Sequence[Argument],
        deadline: float,
        key: int = 0,
        then: Callable[[Rows | None], None] | None = None,
    ) -> asyncio.Future[Rows]:
        """Send a call. The future gets the rows, or raises `RemoteUnavailable`.

        A call that is cancelled before it was sent is not sent. `key` is the lock that a `batched` statement takes.
        `then` is called with the rows as soon as they are there, before what came later is looked at; with None if the
        call failed.
        """
        call = Call(statement, list(map(encoded, arguments)), deadline, self._loop.create_future(), key, then)
        if not self.usable:
            call.fail(self._failure or self._unavailable("the connection was closed"))
            return call.future
        self._outbox.append(call)
        if self.is_open and len(self._outbox) == 1:
            apart(self._loop.call_soon, self._write_out)
        if self._timer is None:
            self._timer = Timer(self._loop, deadline, self._fail_overdue)
        return call.future

    # Notifications

    def listen(
        self,
        channels: Sequence[str],
        listener: Listener,
        deadline: float,
        process: Process | None = None,
        then: Callable[[Rows | None], None] | None = None,
    ) -> None:
        """Have `listener` called with what is notified on `channels`, for a process or a reader.

        `then` is called once that is so, or with None if it failed.
        """
        new = [channel for channel in channels if channel not in self._listeners]
        for channel in channels:
            self._listeners.setdefault(channel, []).append(listener)
        self._change(SUBSCRIBE, new, deadline, process, then)

    def unlisten(
        self, channels: Sequence[str], listener: Listener, deadline: float, process: Process | None = None
    ) -> None:
        """Call it no more."""
        ended = []
        for channel in channels:
            left = [each for each in self._listeners.pop(channel, ()) if each != listener]
            if left:
                self._listeners[channel] = left
            else:
                ended.append(channel)
        self._change(UNSUBSCRIBE, ended, deadline, process)

    def _change(
        self,
        statement: Statement,
        channels: Sequence[str],
        deadline: float,
        process: Process | None,
        then: Callable[[Rows | None], None] | None = None,
    ) -> None:
        of_groups = [channel for channel in channels if is_of_group(channel)]
        number, begins_or_ends = process or (None, False)
        self.call(statement, [",".join(channels), ",".join(of_groups), number, begins_or_ends], deadline, then=then)

    def hears(self, channel: str) -> bool:
        """Whether this session listens to `channel`."""
        return channel in self._listeners

    def tell(self, channel: str) -> None:
        """Call those who listen to `channel` in this session, whose sleep the session itself does not see."""
        self._pass_on(channel, b"")

    async def close(self) -> None:
        """Accept no more calls, wait for the answers under way, then close. Does nothing while it has users."""
        if self.users and self._failure is None:
            return
        self.usable = False
        self._is_closing = True
        self._end_if_done()
        if not self._closed.done():
            await asyncio.wait([self._closed])

    def abort(self) -> None:
        """Close without waiting, for a loop that is about to be closed or was closed without notice."""
        self.usable = False
        if self._loop.is_closed():
            self._drop_session()
        else:
            self._fail(RemoteUnavailable("The event loop ended."))

    # Opening and ending

    async def _open(self) -> None:
        try:
            async with time_limit(self._timeout):
                connection = self._connection = await open_session(self.host, self._timeout)
        except NotReady as error:
            return self._fail(error)
        except (psycopg.Error, OSError, TimeoutError) as error:
            cause = str(error).strip().partition("\n")[0] or f"no connection within {self._timeout} s"
            return self._fail(self._unavailable(cause))
        except asyncio.CancelledError:
            return self._fail(RemoteUnavailable("The event loop ended."))
        except Exception as error:  # noqa: BLE001  # of what looks up the parameters
            return self._fail(self._unavailable(repr(error)))
        if self._failure is not None:
            return self._drop_session()
        with self._guard:
            pg = connection.pgconn
            self._fd = pg.socket
            descriptors.opened(self, self._fd)
            pg.notify_handler = None  # psycopg's own, which would take them all
            self._pipeline = Pipeline(pg, self._pass_on)
            apart(self._loop.add_reader, self._fd, self._readable)
            self.is_open = True
            if not self.opened.done():
                self.opened.set_result(None)
            self._write_out()
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self._is_closing and not self._outbox and (self._pipeline is None or self._pipeline.is_idle):
            self._fail(RemoteUnavailable("The connection was closed."), broke=False)

    def _fail(self, error: RemoteUnavailable, broke: bool = True) -> None:
        self.usable = False
        if self._failure is not None:
            return
        self._failure = error
        was_open, pipeline = self.is_open, self._pipeline
        self._drop_session()
        if self._loop.is_closed():  # nobody waits
            return
        if self._timer is not None:
            self._timer.cancel()
        if not self.opened.done():
            self.opened.set_exception(error)
        calls = [*(() if pipeline is None else pipeline.unanswered()), *self._outbox]
        self._outbox.clear()
        for call in calls:
            call.fail(error)
        for user in list(self.users):
            user.lost(error)
        self.users.clear()
        if not self._task.done() and asyncio.current_task() is not self._task:
            self._task.cancel()
        if not self._closed.done():
            self._closed.set_result(None)
        self._on_end(self, broke and was_open)

    def _drop_session(self) -> None:
        """End the session. What was not sent yet never arrives."""
        connection, self._connection = self._connection, None
        pipeline, self._pipeline = self._pipeline, None
        self.is_open = False
        if connection is None:
            return
        if self._fd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
        is_whole = connection.pgconn.status == pq.ConnStatus.OK  # else libpq has closed the socket already
        if is_whole and pipeline is not None and not pipeline.is_idle:
            descriptors.discard(self, self._fd)
        descriptors.closed(self)
        connection.pgconn.finish()

    def _unavailable(self, cause: str) -> RemoteUnavailable:
        return RemoteUnavailable(f"The server {self.host.label} is not available: {cause}")

    # Sending and receiving

    def _write_out(self) -> None:
        """Send what was called in this turn of the loop."""
        with self._guard:
            calls = [call for call in self._outbox if not call.future.done()]
            self._outbox.clear()
            if calls:
                self._work(lambda pipeline: pipeline.send(calls))

    def _readable(self) -> None:
        with self._guard:
            self._work(Pipeline.receive)
            self._end_if_done()

    def _writable(self) -> None:
        with self._guard:
            self._work(lambda _: None)

    def _work(self, work: Callable[[Pipeline], None]) -> None:
        """Do `work`, and write what there is to write."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        try:
            work(pipeline)
            if self._pipeline is not pipeline:  # somebody ended the session meanwhile
                return
            is_left = pipeline.flush()
        except CallFailed as error:
            return self._fail(self._unavailable(str(error)))
        except psycopg.Error as error:
            cause = str(error).strip().partition("\n")[0] or "the connection broke"
            return self._fail(self._unavailable(pipeline.error or cause))
        if is_left is not self._writes:
            self._writes = is_left
            if is_left:
                apart(self._loop.add_writer, self._fd, self._writable)
            else:
                self._loop.remove_writer(self._fd)

    def _pass_on(self, channel: str, text: bytes) -> None:
        for listener in list(self._listeners.get(channel, ())):
            listener(channel, text)

    def _fail_overdue(self) -> None:
        """Fail all calls if the deadline of one has passed; else wait for the next deadline."""
        self._timer = None
        with self._guard:
            under_way = [] if self._pipeline is None else self._pipeline.unanswered()
            waiting = [call.deadline for call in (*under_way, *self._outbox)]
            if not waiting:
                return
            first = min(waiting)
            if first > monotonic() + 0.001:
                self._timer = Timer(self._loop, first, self._fail_overdue)
                return
            what = "answer" if self.is_open else "connection"
            self._fail(self._unavailable(f"no {what} within {self._timeout} s"))
