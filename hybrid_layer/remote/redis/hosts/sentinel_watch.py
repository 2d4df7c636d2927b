"""Listens to Sentinels for failovers, so that nobody stays with a master that was replaced but still answers.

Without it, connections would stay until the old master is made a replica, which Sentinels do about ten seconds later,
or until a silent one is given up. Lives in the I/O thread.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from redis.exceptions import RedisError

from hybrid_layer.remote.redis.hosts.sentinel_answers import QUESTION, Master, masters
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.handshake import greet
from hybrid_layer.remote.redis.server.server import Server
from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.timers import sleep, time_limit

_LISTEN = 10.0
"""Seconds after which another Sentinel is listened to: the present one may have been cut off."""
_ANSWER = 2.0
_PAUSE = 0.5
_AGAIN = 1.0
"""Seconds after a failover, at which connections are open that were still being opened to the old master."""


class Watched(Protocol):
    """Sentinels that watch the same services: `sentinel.Sentinels`."""

    @property
    def first(self) -> Server:
        """The Sentinel to be asked next."""

    def put_last(self, sentinel: Server) -> None:
        """Ask the others first."""

    def hear(self, known: dict[str, Master]) -> None:
        """Take note of the masters that a Sentinel knows of."""


class Watch(ResidentTask):
    """Of one set of Sentinels, which it does not keep alive."""

    _what = "the watch over Sentinels"

    def __init__(self, sentinels: Watched) -> None:
        super().__init__()
        self._sentinels = weakref.ref(sentinels)
        weakref.finalize(sentinels, self.abort).atexit = False

    async def _run(self) -> None:
        while True:
            sentinels = self._sentinels()
            if sentinels is None:
                return
            sentinel = sentinels.first
            del sentinels
            try:
                if await self._listen(sentinel):
                    continue
            except (RedisError, OSError, TimeoutError):
                await sleep(_PAUSE)
            sentinels = self._sentinels()
            if sentinels is not None:
                sentinels.put_last(sentinel)
            del sentinels

    async def _listen(self, sentinel: Server) -> bool:
        """Take in what `sentinel` says now; True when it tells of a failover, False when it did not for long."""
        connection = sentinel.new_connection()
        descriptor = -1
        try:
            async with time_limit(_ANSWER):
                known, _ = await greet(connection, [QUESTION, ("SUBSCRIBE", "+switch-master")])
            descriptor = sockets.descriptor_of(connection)
            for pause in (_AGAIN, _LISTEN):
                sentinels = self._sentinels()
                if sentinels is not None:
                    sentinels.hear(masters(known))
                del sentinels
                try:
                    async with time_limit(pause):
                        await connection.read_response(disable_decoding=True, disconnect_on_error=False)
                        return True
                except TimeoutError:
                    pass
            return False
        finally:
            sockets.closing(descriptor)
            await sockets.close(connection)
