# SPDX-License-Identifier: BSD-3-Clause
"""One subscribed connection. Answers and published messages arrive in the server's order.

The subscriptions of an event loop to the shards at one node share it. Each calls `read` from a task of its own, and one
of these tasks reads for all: what is not its own goes to the items of the subscription that it concerns. When that task
leaves `read`, for whatever reason, another one that waits there goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError, MovedError, RedisError, ResponseError

from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.redis.connections.members import Command, Lost, Member
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import write
from hybrid_layer.remote.redis.server.errors import cause_of, unwrapped
from hybrid_layer.remote.redis.server.handshake import greet
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.server.replies import OddReply, answered, is_number, is_pong, is_text, next_reply
from hybrid_layer.remote.redis.wire.published import Verbs
from hybrid_layer.supervision import Guard
from hybrid_layer.timers import Timer, call_later

AT_ONCE = 500
"""Names in one command, so that 10,000 of them do not block the server for long."""
_MARGIN = 2.0
"""Seconds that a silent server has to answer a PING."""
_WHAT = "a connection of pub/sub"
_LAST_CHANCE = 0.2
_TURN = 32
"""Messages to read before the event loop gets a turn: consumers must run before their buffers are full."""


class SubscribedConnection:
    """A connection to `endpoint` for the running loop. `on_end` is called when it is no longer usable."""

    def __init__(
        self, context: Context, endpoint: Host, verbs: Verbs, on_end: Callable[[SubscribedConnection], None]
    ) -> None:
        self.endpoint = endpoint
        self.loop = asyncio.get_running_loop()
        self._verbs = verbs
        self._on_end = on_end
        self._silence = context.options.block_time
        self._margin = _MARGIN if endpoint.read_timeout is None else endpoint.read_timeout - self._silence
        self._opening = asyncio.Lock()
        self._is_open = self._is_lost = False
        self._connection: Any = None
        self._members: dict[Member, None] = {}
        self._receivers: dict[bytes, Member] = {}
        """By tag: who receives what is published there, from the first confirmation on."""
        self._is_read = False
        self._unanswered: deque[Command] = deque()
        self._timer: Timer | None = None
        self._heard = True
        self._chances = 2
        self._turn = _TURN
        self._cause = ""
        self._guard = Guard(_WHAT, context.statistics.count, lambda error: self._hang_up(repr(error)))

    # Coming and going

    def join(self, member: Member) -> None:
        """Share the connection: it stays until the last one has left."""
        self._members[member] = None

    async def open(self) -> None:
        """Connect, unless that is done. Raises `RedisError` or `OSError`."""
        async with self._opening:
            if self._is_lost:
                raise ConnectionError(self._cause)
            if self._is_open:
                return
            try:
                self._connection = await self.endpoint.connection()
                await greet(self._connection, [("TIME",)])
            except BaseException:
                connection, self._connection = self._connection, None
                await sockets.close(connection)
                raise
            self._is_open = True
            self._timer = call_later(self.loop, self._silence, self._check_silence)

    async def leave(self, member: Member, names: Sequence[str]) -> None:
        """Share it no more, after a subscription to `names`. The last one closes the connection."""
        if member not in self._members:
            return
        del self._members[member]
        for tag in [tag for tag, each in self._receivers.items() if each is member]:
            del self._receivers[tag]
        if self._members:
            may_be_subscribed = member.was_confirmed or any(each.member is member for each in self._unanswered)
            if may_be_subscribed and not self._is_lost:
                self.unsubscribe(names)
            return
        self._on_end(self)
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        await sockets.close(connection)

    def abort(self, task: asyncio.Task[Any]) -> None:
        """Close the connection and end `task`, which uses it. The loop was closed without notice."""
        self._on_end(self)
        connection, self._connection = self._connection, None
        sockets.abort_orphan(connection, task)

    # What is sent

    def subscribe(self, member: Member, names: Sequence[str]) -> None:
        """Subscribe `member` to at most `AT_ONCE` names. It gets an answer for each, or one refusal."""
        self._write(Command("subscribe", member, names), (self._verbs.subscribe, *names))

    def ping(self, member: Member | None, text: str) -> None:
        """Get an answer for `member`."""
        self._write(Command("ping", member, ()), ("PING", text))

    def unsubscribe(self, names: Sequence[str]) -> None:
        """End the subscriptions to `names`. Nobody gets an answer."""
        for start in range(0, len(names), AT_ONCE):
            batch = names[start : start + AT_ONCE]
            # A node that has lost the slot refuses the command, after it has ended the same subscriptions by itself.
            # Only the answer to the PING shows for certain that all answers are there.
            commands = (self._verbs.unsubscribe, *batch), ("PING", "unsubscribed")
            self._write(Command("unsubscribe", None, batch), *commands)

    def _write(self, command: Command, *sent: tuple[str, ...]) -> None:
        with self._guard:
            self._unanswered.append(command)
            write(self._connection, sent)

    # What arrives

    async def read(self, member: Member) -> None:
        """Give `member` its next item. A cancellation loses nothing."""
        items, message = member.items, self._verbs.message
        if items and self._is_turn_over():
            await asyncio.sleep(0)
        try:
            while not items:
                if self._is_read:
                    await self._wait(member)
                    continue
                self._is_read = True
                try:
                    if self._is_turn_over():
                        await asyncio.sleep(0)
                    reply = answered(await next_reply(self._connection))
                except Exception as error:  # noqa: BLE001  # the connection is lost, unless it is a refusal
                    self._take_error(error)
                    continue
                finally:
                    self._is_read = False
                self._heard = True
                if (
                    type(reply) is list
                    and len(reply) == 3
                    and reply[0] == message
                    and type(reply[1]) is type(reply[2]) is bytes
                ):
                    name = reply[1]
                    receiver = self._receivers.get(self._verbs.tag_in(name))
                    if receiver is member:
                        return member.take_message(name, reply[2])
                    if receiver is not None:
                        receiver.add(reply)
                elif not self._is_taken(reply):
                    self._lose_all(str(OddReply("a subscription", reply)))
        finally:
            if len(self._members) > 1 and not self._is_read:
                self._wake_another()
        member.take_item(items.popleft())

    def _wake_another(self) -> None:
        """Let one of those who wait read."""
        for member in self._members:
            if member.waiter is not None:
                return member.wake()

    async def _wait(self, member: Member) -> None:
        member.waiter = self.loop.create_future()
        try:
            await member.waiter
        finally:
            member.waiter = None

    def _is_turn_over(self) -> bool:
        self._turn -= 1
        if self._turn > 0:
            return False
        self._turn = _TURN
        return True

    def _take_error(self, error: Exception) -> None:
        if isinstance(error, ResponseError):
            self._heard = True
            self._take_refusal(error)
            return
        self._lose_all(self._cause or cause_of(error), error)
        if not isinstance(error, RedisError | OSError | TimeoutError):
            raise error

    def _is_taken(self, reply: object) -> bool:
        """Take an answer to a SUBSCRIBE, an UNSUBSCRIBE or a PING. Whether it is one."""
        command = self._unanswered[0] if self._unanswered else None
        if isinstance(reply, list) and len(reply) == 3 and is_text(reply[1]) and is_number(reply[2]):
            if reply[0] == self._verbs.unsubscribed:
                self._take_end(reply[1], command)
                return True
            if reply[0] == self._verbs.subscribed and command is not None and command.kind == "subscribe":
                self._take_confirmation(reply[1], command)
                return True
        if command is None or command.kind == "subscribe" or not is_pong(reply):
            return False
        self._unanswered.popleft()
        if command.member is not None:
            command.member.add(None)
        return True

    def _take_confirmation(self, name: bytes, command: Command) -> None:
        member = command.member
        if member is not None and member in self._members:
            self._receivers[self._verbs.tag_in(name)] = member
            member.was_confirmed = True
            member.add(None)
        command.left -= 1
        if not command.left:
            self._unanswered.popleft()

    def _take_end(self, name: bytes, command: Command | None) -> None:
        if command is not None and name in command.names:
            return
        # Nobody asked for it: this is how a node of a cluster says that it no longer owns the slot.
        loser = self._receivers.pop(self._verbs.tag_in(name), None)
        if loser is not None:
            loser.add(Lost("its slot moved to another node"))

    def _take_refusal(self, refusal: ResponseError) -> None:
        command = self._unanswered[0] if self._unanswered else None
        if command is not None and command.member is not None:
            self._unanswered.popleft()
            command.member.add(refusal)
        elif command is None or command.kind != "unsubscribe" or not isinstance(unwrapped(refusal), MovedError):
            self._lose_all(cause_of(refusal, self._verbs.are_sharded), refusal)

    def _lose_all(self, cause: str, error: Exception | None = None) -> None:
        self._is_lost = True
        self._on_end(self)
        self._hang_up(cause)
        for member in self._members:
            member.add(Lost(cause, error))

    def _check_silence(self) -> None:
        """Send a PING to a silent server, and hang up if it does not answer."""
        with self._guard:
            for member in list(self._members):
                member.on_idle()
            if self._heard:
                self._heard, self._chances, pause = False, 2, self._silence
            elif self._chances == 2:
                self.ping(None, "silence")
                self._chances, pause = 1, self._margin
            elif self._chances == 1:
                # If the loop was busy all the time, the answer may have arrived and not been read yet.
                self._chances, pause = 0, _LAST_CHANCE
            else:
                return self._hang_up(f"no answer within {self._silence + self._margin} s")
            self._timer = call_later(self.loop, pause, self._check_silence)

    def _hang_up(self, cause: str) -> None:
        self._cause = cause
        if self._connection is not None:
            sockets.abort(self._connection, self.loop)
