# SPDX-License-Identifier: BSD-3-Clause
"""A sending connection of one event loop. It sends commands in the order of the calls, and replies have that order too.

Commands that are issued in one turn of the loop are sent as one pipeline. Nothing is ever sent twice: when the
connection breaks, every call that may have reached the server fails.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import BusyLoadingError, RedisError

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import Command, write
from hybrid_layer.remote.redis.server.errors import FINAL, NotConnected
from hybrid_layer.remote.redis.server.handshake import greet
from hybrid_layer.remote.redis.server.host import Host, open_within, unavailable
from hybrid_layer.remote.redis.server.replies import next_reply
from hybrid_layer.supervision import Count, Guard, apart, start_task
from hybrid_layer.timers import Timer, call_later, sleep, time_limit

_WHAT = "a sending connection"
_LOADING_PAUSE = 0.1
_GRACE = 0.5
"""Seconds to wait for replies under way when the loop ends."""


@dataclass(slots=True, eq=False)
class _Call:
    command: Command
    deadline: float
    future: asyncio.Future[Any]


class PipelinedConnection:
    """One connection to `host`. It opens itself. When it is no longer `usable`, a new object replaces it.

    A task of the loop in which the object was made owns it. It connects and then reads.
    """

    def __init__(
        self, host: Host, timeout: float, on_end: Callable[[PipelinedConnection, bool], None], count: Count
    ) -> None:
        self.host = host
        self._timeout = timeout
        self._open_within = open_within(host, timeout)
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._connection: Any = None
        self._is_open = False
        self._outbox: list[_Call] = []
        self._pending: deque[_Call] = deque()
        self._timer: Timer | None = None
        self._failure: BaseException | None = None
        self._is_closing = False
        self.usable = True
        self.was_cancelled = False
        """The loop's tasks are being cancelled: it is ending, and must not open another connection."""
        self._guard = Guard(_WHAT, count, lambda error: self._fail(unavailable(host, repr(error))))
        self._task: asyncio.Task[None] | None = None
        self._task = start_task(self._loop, self._run())

    def call(self, command: Command, deadline: float) -> asyncio.Future[Any]:
        """Send `command`. The future gets the reply, which may be a `ResponseError`, or raises `RemoteUnavailable`.

        A call that is cancelled before it was sent is not sent.
        """
        call = _Call(command, deadline, self._loop.create_future())
        self._outbox.append(call)
        if self._is_open and len(self._outbox) == 1:
            apart(self._loop.call_soon, self._write_out)
        if self._timer is None:
            self._timer = Timer(self._loop, deadline, self._fail_overdue)
        return call.future

    async def close(self) -> None:
        """Accept no more calls, wait for the replies under way, then close."""
        self.usable = False
        if self._is_open and not self._has_calls():
            self._is_closing = True
            self._cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def abort(self) -> None:
        """Close without waiting, for a loop that is about to be closed or was closed without notice."""
        self.usable = False
        if self._loop.is_closed():
            sockets.abort_orphan(self._connection, self._task)
            return
        self._fail(RemoteUnavailable("The event loop ended."))

    def _has_calls(self) -> bool:
        return bool(self._pending or self._outbox)

    def _write_out(self) -> None:
        """Send what was called in this turn of the loop."""
        with self._guard:
            batch = [call for call in self._outbox if not call.future.done()]
            self._outbox.clear()
            if batch:
                self._pending.extend(batch)
                write(self._connection, [call.command for call in batch])

    async def _run(self) -> None:
        try:
            with self._guard:
                await self._serve()
        finally:
            if not self._loop.is_closed():  # else the garbage collector runs this, and cannot wait
                await self._end()

    async def _serve(self) -> None:
        try:
            await self._open()
            self._is_open = True
            self._write_out()
            while self.usable or self._has_calls():
                try:
                    self._take(await next_reply(self._connection))
                except BusyLoadingError as refusal:
                    self._take(refusal)
                except asyncio.CancelledError:
                    if self._is_closing or self._failure is not None:
                        return
                    self.usable = False
                    self.was_cancelled = True
                    if self._has_calls():
                        call_later(self._loop, _GRACE, lambda: self._fail(RemoteUnavailable("The event loop ended.")))
        except asyncio.CancelledError:
            self.was_cancelled = self._failure is None
        except (RedisError, OSError, TimeoutError) as error:
            failure = unavailable(self.host, error)
            is_final = self._is_open or isinstance(error, FINAL)
            self._fail(failure if is_final else NotConnected(str(failure)))

    async def _open(self) -> None:
        try:
            async with time_limit(self._open_within):
                while True:
                    self._connection = await self.host.connection()
                    try:
                        # All scripts at once, so that concurrent first calls need not be repeated out of order. If
                        # one fails to load, the first call that needs it tries again and reports the error.
                        await greet(self._connection, [("SCRIPT", "LOAD", script.source) for script in scripts.ALL])
                        return
                    except BusyLoadingError:  # the server has just started and loads its data
                        await sockets.close(self._connection)
                        await sleep(_LOADING_PAUSE)
        except TimeoutError:
            raise TimeoutError(f"no connection within {self._open_within} s") from None

    def _take(self, reply: Any) -> None:
        if not self._pending:
            self._fail(unavailable(self.host, "a reply came without a command"))
            return
        call = self._pending.popleft()
        if not call.future.done():
            call.future.set_result(reply)

    async def _end(self) -> None:
        self.usable = False
        broke = self._failure is not None
        self._fail(self._failure or RemoteUnavailable("The connection was closed."))
        if self._timer is not None:
            self._timer.cancel()
        if broke:
            sockets.discard(self._connection)
        try:
            await sockets.close(self._connection)
        finally:  # perhaps the loop ends meanwhile
            self._on_end(self, broke and self._is_open)

    def _fail(self, error: BaseException) -> None:
        self.usable = False
        if self._failure is None:
            self._failure = error
        if self._loop.is_closed():  # the garbage collector runs this, and nobody waits
            return
        for call in (*self._pending, *self._outbox):
            if not call.future.done():
                call.future.set_exception(self._failure)
                call.future.exception()  # retrieved, since a caller that was cancelled meanwhile does not
        self._pending.clear()
        self._outbox.clear()
        self._cancel()

    def _cancel(self) -> None:
        """Have the task end, unless it is the caller."""
        if self._task is not None and asyncio.current_task() is not self._task:
            self._task.cancel()

    def _fail_overdue(self) -> None:
        """Fail all calls if the deadline of one has passed; else wait for the next deadline."""
        self._timer = None
        with self._guard:
            now = monotonic()
            waiting = [call for call in (*self._pending, *self._outbox) if not call.future.done()]
            if not waiting:
                return
            first = min(call.deadline for call in waiting)
            if first > now + 0.001:
                self._timer = Timer(self._loop, first, self._fail_overdue)
                return
            # What was sent may have been executed, and a late reply could be mistaken for another call's. So the
            # connection is closed.
            if self._is_open:
                self._fail(unavailable(self.host, f"no answer within {self._timeout} s"))
            else:
                self._fail(NotConnected(str(unavailable(self.host, f"no connection within {self._timeout} s"))))
