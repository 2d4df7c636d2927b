"""A reading connection: blocking pops, of which none may be abandoned before its answer is in hand.

A pop that the server has answered into a closed connection is a lost message. So a cancellation during a pop does not
stop it: it pushes to a key that the pop waits on as well, the wake key, and stays for the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from redis.exceptions import RedisError, ResponseError

from hybrid_layer import identity
from hybrid_layer.clock import boottime, monotonic, seconds
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.epoch import Epoch
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Batch
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.hosts.host import Host, open_within
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import Command, packed
from hybrid_layer.remote.redis.server.errors import cause_of
from hybrid_layer.remote.redis.server.handshake import greet, warn_of_eviction
from hybrid_layer.remote.redis.server.replies import OddReply, are_texts, is_text, is_time
from hybrid_layer.remote.redis.wire.entries import parse, parse_note
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.remote.runtime.backoff import Backoff, ReadingLost
from hybrid_layer.statistics import warn
from hybrid_layer.timers import Timer, call_later, time_limit

_MARGIN = 2.0
"""Seconds beyond the block time after which an answer is given up."""
_WAKE_LIFE_MS = 60_000
"""Milliseconds after which a wake that no pop has taken expires."""
_WAKE_PATIENCE = 1.0
"""Seconds that a cancelled pop waits for the answer to its wake."""


class BlockingReader:
    """Implements `hybrid_layer.remote.delivery.store.Reader`. `run_later` has the I/O thread run a command."""

    def __init__(
        self,
        host: Host,
        keys: Keys,
        shard: Shard,
        options: DeliveryOptions,
        notes_of: str,
        run_later: Callable[[int, Command], None],
    ) -> None:
        self._host = host
        self._keys = keys
        self._shard = shard
        self._notes_of = notes_of
        self._run_later = run_later
        self._wake_key = keys.wake(identity.random_id())
        block_time, timeout = options.block_time, options.timeout
        self._block_time = block_time
        # Above the block time, whatever the client's default is: that one ends every idle pop.
        self._read_timeout = host.read_timeout or block_time + _MARGIN
        self._late_after = (block_time + self._read_timeout) / 2
        self._timeout = timeout
        self._open_within = open_within(host, timeout)
        self._connection: Any = None
        self._descriptor = -1
        self._has_blmpop = True
        self._backoff = Backoff(host.label)
        self.pause = self._backoff.pause
        self._given_up = False
        self._timer: Timer | None = None
        self._asked: float | None = None
        """Since when an answer is awaited, on `hybrid_layer.clock`."""
        self.cancelled = False

    async def connect(self) -> None:
        if self._connection is None:
            await self._open()

    async def read(self, sources: Sequence[str], count: int) -> Batch | None:
        await self.connect()
        keys = {self._wake_key: ""}
        if self._notes_of:
            keys[self._keys.notes(self._notes_of)] = ""
        for source in sources:
            keys[self._keys.source(source)] = source
        try:
            try:
                answer = await self._pop(list(keys), count)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                answer = await self._pop(await self._lists(list(keys)), count)
        except (RedisError, OSError, TimeoutError) as error:
            await self._lose(error)
            raise ReadingLost(cause_of(error, bool(self._host.tag))) from None
        # Only now: a server that takes connections may still refuse pops.
        self._backoff.succeeded()
        if answer is None or answer[0] == self._wake_key:
            return None
        key, elements = answer
        if not keys[key]:
            return Batch("", notes=[parse_note(element) for element in elements])
        return Batch(keys[key], [parse(element) for element in elements])

    async def learn_time(self, stamps_ms: Iterable[int]) -> None:
        clock = self._shard.clock
        if self._connection is None or all(clock.left(stamp) > 0 for stamp in stamps_ms):
            return
        try:
            asked = boottime()
            clock.measured(_time(await self._answer(("TIME",))), asked)
        except (RedisError, OSError, TimeoutError) as error:
            await self._lose(error)
        except asyncio.CancelledError:
            self.cancelled = True  # what was read is handed over first

    async def learn_epoch(self, epoch: Epoch) -> None:
        if self._connection is None:
            return
        known = epoch.known
        try:
            reply = await self._answer(("GET", self._keys.epoch))
        except (RedisError, OSError, TimeoutError) as error:
            await self._lose(error)
        except asyncio.CancelledError:
            self.cancelled = True
        else:
            epoch.answered(reply if is_text(reply) else b"", known)

    def interrupt(self) -> None:
        # By the I/O thread: also when the loop ends and its own connections with it.
        self._run_later(self._shard.number, scripts.WAKE.command([self._wake_key], _WAKE_LIFE_MS))

    def give_up(self) -> None:
        self._given_up = True

    def abort(self, task: asyncio.Task[Any]) -> None:
        connection, self._connection = self._connection, None
        sockets.abort_orphan(connection, task)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        connection, self._connection = self._connection, None
        sockets.closing(self._descriptor)
        self._descriptor = -1
        await sockets.close(connection)

    async def _lose(self, cause: Exception) -> None:
        self._host.invalidate(cause)
        await self.close()

    async def _open(self) -> None:
        try:
            async with time_limit(self._open_within):
                self._connection = await self._host.connection()
                _, memory = await greet(self._connection, [("TIME",), ("INFO", "memory")])
                self._descriptor = sockets.descriptor_of(self._connection)
                warn_of_eviction(self._host.label, memory)
                await self._measure()
        except (RedisError, OSError, TimeoutError) as error:
            await self._lose(error)
            raise ReadingLost(str(error) or "no connection in time") from None
        except BaseException:
            await self.close()
            raise

    async def _lists(self, keys: list[str]) -> list[str]:
        """Those of `keys` that can be popped from: a stranger's value at one must not cost the others their reader."""
        found = []
        for key in keys:
            kind = await self._ask("TYPE", key)
            if not is_text(kind):
                raise OddReply("TYPE", kind)
            if kind in (b"list", b"none"):
                found.append(key)
            else:
                warn(
                    ("type", key),
                    f"The key {key} on {self._host.label} holds a {kind.decode('ascii', 'replace')} that is not of "
                    f"hybrid_layer; nothing can be received there until it is removed. Who else writes keys with this "
                    f"prefix?",
                )
        return found

    async def _pop(self, keys: list[str], count: int) -> tuple[str, list[bytes]] | None:
        if self._has_blmpop and count > 1:
            command: tuple[Any, ...] = ("BLMPOP", self._block_time, len(keys), *keys, "LEFT", "COUNT", count)
            try:
                reply = await self._answer(command)
            except ResponseError as error:
                if "unknown command" not in str(error).lower() and "NOPERM" not in str(error):
                    raise
                self._has_blmpop = False  # Redis before 7
                return await self._pop(keys, count)
            if reply is not None:
                return self._popped("BLMPOP", keys, reply)
        else:
            reply = await self._answer(("BLPOP", *keys, self._block_time))
            if reply is not None:
                return self._popped(
                    "BLPOP", keys, [reply[0], reply[1:]] if isinstance(reply, list) and reply else reply
                )
        if not self.cancelled:
            await self._measure()
        return None

    @staticmethod
    def _popped(command: str, keys: list[str], reply: object) -> tuple[str, list[bytes]]:
        if not (isinstance(reply, list) and len(reply) == 2 and is_text(reply[0]) and are_texts(reply[1])):
            raise OddReply(command, reply)
        key = reply[0].decode("utf-8", "replace")
        if key not in keys:
            raise OddReply(command, reply)
        return key, reply[1]

    async def _answer(self, command: tuple[Any, ...]) -> Any:
        connection = self._connection
        asked = self._asked = monotonic()
        if self._timer is None:  # one for many pops, lest each have its own
            self._timer = Timer(asyncio.get_running_loop(), asked + self._late_after, self._look)
        try:
            await connection.send_packed_command(packed(connection, [command]), check_health=False)
            while True:
                try:
                    return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
                except asyncio.CancelledError:
                    # redis-py's parsers keep what they have of a reply, so reading can go on.
                    if self._given_up:
                        raise
                    if not self.cancelled:
                        call_later(asyncio.get_running_loop(), _WAKE_PATIENCE, partial(self._run_out, _this_task()))
                        self.interrupt()
                    self.cancelled = True
        except (RedisError, OSError):
            if monotonic() - asked >= self._read_timeout:  # it was given up
                raise TimeoutError(f"no answer within {self._read_timeout} s") from None
            raise
        finally:
            self._asked = None

    def _look(self) -> None:
        """Have a server that is late woken, and give up one that does not answer even then."""
        self._timer = None
        if self._asked is None:
            return
        loop, waited = asyncio.get_running_loop(), monotonic() - self._asked
        if waited >= self._read_timeout:
            sockets.abort(self._connection, loop)
            return
        is_late = waited >= self._late_after
        self._timer = Timer(loop, self._asked + (self._read_timeout if is_late else self._late_after), self._look)
        if is_late:  # a server whose clock was set back ends its pops later by as much, but it lives
            self.interrupt()

    def _run_out(self, task: asyncio.Task[Any]) -> None:
        self._given_up = True
        if not task.done():
            task.cancel()

    async def _ask(self, *command: str) -> Any:
        """A command whose answer may be abandoned: then the connection is to be closed."""
        connection = self._connection
        try:
            async with time_limit(self._timeout):
                await connection.send_packed_command(packed(connection, [command]), check_health=False)
                return await connection.read_response(disable_decoding=True)
        except TimeoutError:
            raise TimeoutError(f"no answer to {command[0]} within {self._timeout} s") from None

    async def _measure(self) -> None:
        asked = boottime()
        self._shard.clock.measured(_time(await self._ask("TIME")), asked)


def _time(reply: Any) -> float:
    if not is_time(reply):
        raise OddReply("TIME", reply)
    return seconds(reply)


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
