# SPDX-License-Identifier: BSD-3-Clause
"""A reading connection: blocking pops. None may be abandoned before its answer has arrived.

If the server answers a pop over a closed connection, the message is lost. So a cancellation does not stop a pop. It
pushes to the wake key, which the pop waits on as well, and waits for the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

from redis.exceptions import RedisError, ResponseError

from hybrid_layer import identity
from hybrid_layer.clock import boottime, monotonic, seconds
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.epoch import Epoch
from hybrid_layer.remote.delivery.replies import Batch
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.written import parse_note
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.reading_connection import ReadingConnection
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import Command, write
from hybrid_layer.remote.redis.server.errors import cause_of
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.server.replies import (
    OddReply,
    answered,
    checked,
    is_text,
    is_text_or_none,
    is_time,
    next_reply,
)
from hybrid_layer.remote.redis.wire.entries import parse
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.remote.runtime.calls import Calls, Shape
from hybrid_layer.timers import Timer, call_later

_WAKE_LIFE_MS = 60_000
"""Milliseconds until a wake that no pop has taken expires."""
_TEXTS = frozenset({bytes})
_WAKE_PATIENCE = 1.0
"""Seconds that a cancelled pop waits for an answer after its wake."""


class BlockingReader(ReadingConnection):
    """Implements `hybrid_layer.remote.delivery.store.Reader`. The I/O thread interrupts it, by one of `calls`."""

    def __init__(
        self, host: Host, keys: Keys, shard: Shard, options: DeliveryOptions, notes_of: str, calls: Calls[Command]
    ) -> None:
        super().__init__(host, shard, options)
        self._keys = keys
        self._notes_of = notes_of
        self._calls = calls
        self._wake_key = keys.wake(identity.random_id())
        self._has_blmpop = True
        self._given_up = False
        self._timer: Timer | None = None
        self._asked: float | None = None
        """When the command under way was sent, on `hybrid_layer.clock`."""
        self.cancelled = False
        self._sources: Sequence[str] = ()
        self._sources_by_key: dict[str, str] = {}
        """Those of the last read, nearly always the same as of the next."""

    async def connect(self) -> None:
        await self._open()

    async def read(self, sources: Sequence[str], count: int) -> Batch | None:
        await self.connect()
        if sources != self._sources:
            self._sources, self._sources_by_key = sources, self._keys_of(sources)
        keys = self._sources_by_key
        try:
            try:
                answer = await self._pop(keys, count)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                answer = await self._pop(await self._lists(keys), count)
        except (RedisError, OSError, TimeoutError) as error:
            await self._lose(error)
            raise ReadingLost(cause_of(error, bool(self._host.tag))) from None
        # Only now: a server that accepts connections may still refuse pops.
        self._backoff.failures = 0
        if answer is None or answer[0] == self._wake_key:
            return None
        key, elements = answer
        if not keys[key]:
            return Batch("", notes=[parse_note(element) for element in elements])
        return Batch(keys[key], [parse(element) for element in elements])

    def _keys_of(self, sources: Sequence[str]) -> dict[str, str]:
        keys = self._keys
        found = {self._wake_key: ""}
        if self._notes_of:
            found[keys.notes(self._notes_of)] = ""
        found.update((keys.inbox(name) if name.endswith("!") else keys.queue(name), name) for name in sources)
        return found

    async def learn_time(self, stamps_ms: Iterable[int]) -> None:
        clock = self._shard.clock
        if any(clock.left(stamp) <= 0 for stamp in stamps_ms):
            asked = boottime()
            reply = await self._answer_if_any(is_time, "TIME")
            if reply is not None:
                clock.measured(seconds(reply), asked)

    async def learn_epoch(self, epoch: Epoch) -> None:
        known = epoch.known
        reply = await self._answer_if_any(is_text_or_none, "GET", self._keys.epoch)
        if reply is not None:
            epoch.answered(reply, known)

    async def _answer_if_any(self, shape: Shape, *command: str) -> Any:
        """The answer between two reads. None if the connection is lost, or in a cancellation, which is kept in mind."""
        if self._connection is None:
            return None
        try:
            return checked(command[0], await self._answer(command), shape)
        except (RedisError, OSError, TimeoutError) as error:
            await self._lose(error)
        except asyncio.CancelledError:
            self.cancelled = True  # the caller hands over what was read first

    def interrupt(self) -> None:
        # By the I/O thread, so that it also works while this loop ends and closes its own connections.
        self._calls.run_later(self._shard.number, scripts.WAKE.command([self._wake_key], _WAKE_LIFE_MS))

    def abort(self, task: asyncio.Task[Any]) -> None:
        if not task.get_loop().is_closed():
            self._give_up(task)
            return
        if self._asked is not None:  # a pop that takes a message now loses it: its answer will never be read
            self.interrupt()
        connection, self._connection = self._connection, None
        sockets.abort_orphan(connection, task)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await super().close()

    async def _lists(self, keys: Collection[str]) -> list[str]:
        """Those of `keys` that can be popped from. A foreign value at one key must not stop reading the others."""
        found = []
        for key in keys:
            kind = checked("TYPE", await self._ask("TYPE", key), is_text)
            if kind in (b"list", b"none"):
                found.append(key)
            else:
                self._warn_of_type(key, kind, "list")
        return found

    async def _pop(self, keys: Collection[str], count: int) -> tuple[str, list[bytes]] | None:
        if self._has_blmpop and count > 1:
            command: tuple[Any, ...] = ("BLMPOP", self._block_time, len(keys), *keys, "LEFT", "COUNT", count)
            try:
                reply = await self._answer(command)
            except ResponseError as error:
                if "unknown command" not in str(error).lower() and "NOPERM" not in str(error):
                    raise
                self._has_blmpop = False  # Redis before 7
                return await self._pop(keys, count)
        else:
            command = ("BLPOP", *keys, self._block_time)
            reply = await self._answer(command)
            if isinstance(reply, list) and reply:
                reply = [reply[0], reply[1:]]
        if reply is None:
            if not (self.cancelled or self._notes_of):  # an addressee's renewals measure the clock
                await self._measure()
            return None
        if (
            isinstance(reply, list)
            and len(reply) == 2
            and isinstance(reply[1], list)
            and _TEXTS.issuperset(map(type, (reply[0], *reply[1])))
        ):
            key = reply[0].decode("utf-8", "replace")
            if key in keys:
                return key, reply[1]
        raise OddReply(command[0], reply)

    async def _answer(self, command: tuple[Any, ...]) -> Any:
        connection = self._connection
        asked = self._asked = monotonic()
        if self._timer is None:  # many pops share one
            self._timer = Timer(asyncio.get_running_loop(), asked + self._late_after, self._check_progress)
        try:
            write(connection, [command])
            while True:
                try:
                    return answered(await next_reply(connection))
                except asyncio.CancelledError:
                    if self._given_up:
                        raise
                    if not self.cancelled:
                        give_up = partial(self._give_up, asyncio.current_task())
                        call_later(asyncio.get_running_loop(), _WAKE_PATIENCE, give_up)
                        self.interrupt()
                    self.cancelled = True
        except (RedisError, OSError):
            if monotonic() - asked >= self._read_timeout:  # `_check_progress` gave it up
                raise TimeoutError(f"no answer within {self._read_timeout} s") from None
            raise
        finally:
            self._asked = None

    def _check_progress(self) -> None:
        """Send a wake if the answer is late, and give up the connection if it does not come even then."""
        self._timer = None
        if self._asked is None:
            return
        loop, waited = asyncio.get_running_loop(), monotonic() - self._asked
        if waited >= self._read_timeout:
            sockets.abort(self._connection, loop)
            return
        is_late = waited >= self._late_after
        self._timer = Timer(
            loop, self._asked + (self._read_timeout if is_late else self._late_after), self._check_progress
        )
        if is_late:  # a live server whose clock was set back ends its pops later by as much
            self.interrupt()

    def _give_up(self, task: asyncio.Task[Any] | None) -> None:
        self._given_up = True
        if task is not None and not task.done():
            task.cancel()
