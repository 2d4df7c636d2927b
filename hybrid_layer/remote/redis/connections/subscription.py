"""One subscribed connection. Answers and published messages arrive in the server's order.

Everything else relies on that order: what was published before a command was executed arrives before its answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.store import Question, Take
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import packed
from hybrid_layer.remote.redis.server.errors import cause_of, is_not_now, unwrapped
from hybrid_layer.remote.redis.server.handshake import greet
from hybrid_layer.remote.redis.server.host import Host, open_within, unavailable
from hybrid_layer.remote.redis.server.replies import OddReply, are_texts, is_number, is_text
from hybrid_layer.remote.redis.wire.published import Published
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.supervision import Guard, start_task
from hybrid_layer.timers import Timer, call_later, time_limit

_AT_ONCE = 500
"""Names in one SUBSCRIBE, so that 10,000 of them do not block the server for long."""
_MARGIN = 2.0
"""Seconds that a silent server has to answer a PING."""
_WHAT = "a connection of pub/sub"
_LAST_CHANCE = 0.2
_TURN = 32
"""Messages to read before the event loop gets a turn: consumers must run before their buffers are full."""


class Subscription:
    """Implements `hybrid_layer.remote.delivery.store.Subscription`."""

    def __init__(
        self, context: Context, host: Host, published: Published, take: Take, on_idle: Callable[[], None]
    ) -> None:
        self._host = host
        self._published = published
        self._open_within = open_within(host, context.options.timeout)
        self._silence = context.options.block_time
        self._margin = _MARGIN if host.read_timeout is None else host.read_timeout - self._silence
        self.take = take
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._connection: Any = None
        self.groups: set[str] = set()
        self._outbox: list[tuple[str, ...]] = []
        self._left: deque[str] = deque()
        """Names whose unsubscription is not confirmed yet, in the order of the answers."""
        self._awaited: deque[Question | None] = deque()
        """The questions behind the next answers; None where nobody waits."""
        self._writer: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._heard = True
        self._chances = 2
        self._turn = _TURN
        self._cause = ""
        self._guard = Guard(_WHAT, context.statistics.count, lambda error: self._hang_up(repr(error)))

    async def open(self) -> None:
        try:
            async with time_limit(self._open_within):
                self._connection = await self._host.connection()
                await greet(self._connection, [("TIME",)])
        except (RedisError, OSError, TimeoutError) as error:
            self._host.invalidate(error)
            raise ReadingLost(str(error) or f"no connection within {self._open_within} s") from None
        self._timer = call_later(self._loop, self._silence, self._check_silence)

    async def subscribe(self, groups: Sequence[str]) -> None:
        self.groups.update(groups)
        names = [*self._published.own_names, *map(self._published.name_of, groups)]
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            self._write((self._published.subscribe, *batch), [None] * len(batch))
            while self._awaited:
                await self.read()

    def ask(self, question: Question) -> None:
        group = question.group
        if group is None:
            self._write(("PING", "question"), [question])
        else:
            self.groups.add(group)
            self._write((self._published.subscribe, self._published.name_of(group)), [question])

    def unsubscribe(self, groups: Sequence[str]) -> None:
        self.groups.difference_update(groups)
        names = list(map(self._published.name_of, groups))
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            self._left.extend(batch)
            self._write((self._published.unsubscribe, *batch), [None] * len(batch))

    def unanswered(self) -> list[Question]:
        questions = [question for question in self._awaited if question is not None]
        self._awaited.clear()
        return questions

    async def read(self) -> None:
        # A cancellation leaves the connection as it was: redis-py's parsers keep a partial reply.
        self._turn -= 1
        if self._turn <= 0:
            self._turn = _TURN
            await asyncio.sleep(0)
        try:
            reply = await self._connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except ResponseError as refusal:
            reply = refusal
        except (RedisError, OSError, TimeoutError) as error:
            self._host.invalidate(error)
            raise ReadingLost(self._cause or cause_of(error)) from None
        self._heard = True
        if isinstance(reply, list) and reply[:1] == [self._published.message] and are_texts(reply) and len(reply) == 3:
            self.take(*self._published.read(reply[1], reply[2]))
            return
        refused = reply if isinstance(reply, ResponseError) else None
        if refused is None and not self._is_answer(reply):
            self._host.invalidate()
            raise ReadingLost(str(OddReply("a subscription", reply)))
        self._refuse_to_stay(reply, refused)
        question = self._awaited.popleft() if self._awaited else None
        if question is not None:
            question.answer(None if refused is None else unavailable(self._host, refused))

    def _is_answer(self, reply: object) -> bool:
        """Whether `reply` can answer a SUBSCRIBE, an UNSUBSCRIBE or a PING."""
        kinds = (self._published.subscribe, self._published.unsubscribe)
        if isinstance(reply, list) and len(reply) == 3 and reply[0] in [kind.lower().encode() for kind in kinds]:
            return is_text(reply[1]) and is_number(reply[2])
        return is_text(reply) or (are_texts(reply) and reply[:1] == [b"pong"])

    def _refuse_to_stay(self, reply: Any, refused: ResponseError | None) -> None:
        """Raise `ReadingLost` if `reply` says that the process must subscribe elsewhere, or cannot at all."""
        in_cluster = bool(self._host.tag)
        if isinstance(reply, list) and reply[0] == self._published.unsubscribe.lower().encode():
            if self._left and self._left[0].encode() == reply[1]:
                self._left.popleft()
                return
            # Nobody asked for it: this is how a node of a cluster says that it no longer owns the slot.
            self._host.invalidate()
            raise ReadingLost("its slot moved to another node")
        if refused is not None and (not any(self._awaited) or (in_cluster and is_not_now(unwrapped(refused), True))):
            self._host.invalidate(refused)
            raise ReadingLost(cause_of(refused, in_cluster))

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._writer is not None:
            self._writer.cancel()
        connection, self._connection = self._connection, None
        await sockets.close(connection)

    def abort(self, task: asyncio.Task[Any]) -> None:
        connection, self._connection = self._connection, None
        sockets.abort_orphan(connection, task, self._writer)

    def _write(self, command: tuple[str, ...], awaited: Sequence[Question | None]) -> None:
        self._awaited.extend(awaited)
        self._outbox.append(command)
        if self._writer is None or self._writer.done():
            self._writer = start_task(self._loop, self._write_out())

    async def _write_out(self) -> None:
        with self._guard:
            while self._outbox:
                commands, self._outbox = self._outbox, []
                try:
                    packets = packed(self._connection, commands)
                    await self._connection.send_packed_command(packets, check_health=False)
                except (RedisError, OSError, TimeoutError) as error:
                    return self._hang_up(str(error))

    def _check_silence(self) -> None:
        """Send a PING to a silent server, and hang up if it does not answer."""
        with self._guard:
            self._on_idle()
            if self._heard:
                self._heard, self._chances, pause = False, 2, self._silence
            elif self._chances == 2:
                self._write(("PING", "silence"), [None])
                self._chances, pause = 1, self._margin
            elif self._chances == 1:
                # If the loop was busy all the time, the answer may have arrived and not been read yet.
                self._chances, pause = 0, _LAST_CHANCE
            else:
                return self._hang_up(f"no answer within {self._silence + self._margin} s")
            self._timer = call_later(self._loop, pause, self._check_silence)

    def _hang_up(self, cause: str) -> None:
        self._cause = cause
        if self._connection is not None:
            sockets.abort(self._connection, self._loop)
