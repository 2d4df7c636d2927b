# SPDX-License-Identifier: BSD-3-Clause
"""Services of Redis Sentinel: a name that leads to whichever server is its master now.

Before a new connection, a Sentinel is asked for the master. A task in the I/O thread subscribes to failovers and closes
connections to an old master. Without it, they would stay until Sentinels make the old master a replica, about ten
seconds later. Sentinels may lag behind one another, so an answer counts by its epoch, which moves with each failover.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import ConnectionError, RedisError

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.errors import safe_text
from hybrid_layer.remote.redis.server.handshake import ask, greet
from hybrid_layer.remote.redis.server.host import AnyConnection, Host, Opened
from hybrid_layer.remote.redis.server.replies import OddReply
from hybrid_layer.remote.redis.server.server import SWITCH_AFTER, Server
from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.timers import sleep, time_limit

QUESTION = ("SENTINEL", "MASTERS")
_ANSWER = 0.5
"""Seconds that a Sentinel has to answer, unless its own `socket_timeout` says otherwise."""
_WATCH_ANSWER = 2.0
"""Seconds that the Sentinel which the watch subscribes to has to answer."""
_WATCH_LIFE = 10.0
"""Seconds after which the watch subscribes to another Sentinel: the present one may have been cut off."""
_WATCH_PAUSE = 0.5
"""Seconds before the watch tries another Sentinel after a failure."""
_AGAIN = 1.0
"""Seconds between a failover and another check, for connections that were being opened to the old master."""


@dataclass(frozen=True, slots=True)
class Master:
    """What one Sentinel knows of one service."""

    host: str
    port: int
    epoch: int
    is_down: bool
    other_sentinels: int


def masters(reply: object) -> dict[str, Master]:
    """The answer to `QUESTION`, by service. Raises `RedisError` if the server is no Sentinel."""
    if not isinstance(reply, list):
        raise ConnectionError(f"it is no Sentinel: {reply}")
    found = {}
    for fields in reply:
        try:
            texts = [field.decode("utf-8", "replace") for field in fields]
            master = dict(zip(texts[::2], texts[1::2], strict=False))
            found[master["name"]] = Master(
                master["ip"],
                int(master["port"]),
                int(master.get("config-epoch", 0)),
                "down" in master["flags"],  # s_down: in its own view; o_down: others agree
                int(master.get("num-other-sentinels", 0)),
            )
        except (TypeError, AttributeError, KeyError, ValueError):
            raise OddReply("SENTINEL MASTERS", fields) from None
    return found


class Sentinels:
    """Sentinels that monitor the same services. Any loop and thread may use them."""

    def __init__(
        self, servers: Sequence[Server], options: Server, refresh_interval: float, fewest_others: int = 0
    ) -> None:
        self.label = ", ".join(server.label for server in servers)
        self.options = options
        """Those of connections to the masters."""
        self.refresh_interval = refresh_interval
        self._fewest_others = fewest_others
        self.order = tuple(servers)
        """In which they are asked."""
        self._services: dict[str, Service] = {}
        self._epochs: dict[str, int] = {}
        self._watch = _Watch(self)

    def service(self, name: str) -> Service:
        """The host for the service `name`."""
        self._services[name] = Service(name, self)
        return self._services[name]

    async def master(self, service: str) -> Master:
        """The live master of `service`. Raises `RedisError` if no Sentinel names one."""
        self._watch.settle()
        complaints: list[str] = []
        behind = []
        for sentinel in self.order:
            known = await self._known_to(sentinel, complaints)
            if known is not None:
                complaint = self._complaint(known, service)
                if not complaint and known[service].epoch >= self._epochs.get(service, 0):
                    return self._noted(service, known[service])
                if complaint:
                    complaints.append(f"{sentinel.label} {complaint}")
                else:
                    behind.append(known[service])
            self.put_last(sentinel)
        if behind:  # all of them, so they were set up anew
            return self._noted(service, max(behind, key=lambda master: master.epoch))
        raise ConnectionError(f"no Sentinel names a master. {'; '.join(complaints)}")

    async def hosts(self) -> tuple[Service, ...]:
        """A host for each service, by name. Raises `RedisError` if no Sentinel answers or knows any."""
        complaints: list[str] = []
        for sentinel in self.order:
            known = await self._known_to(sentinel, complaints)
            if known:
                return tuple(map(self.service, sorted(known)))
            if known is not None:
                complaints.append(f"{sentinel.label} knows none")
            self.put_last(sentinel)
        raise ConnectionError("; ".join(complaints))

    def put_last(self, sentinel: Server) -> None:
        """Ask the others first, since `sentinel` did not help."""
        self.order = (*(each for each in self.order if each is not sentinel), sentinel)

    def note_masters(self, known: dict[str, Master]) -> None:
        """Take in what the watched Sentinel knows, and close the connections to replaced masters."""
        for name, service in list(self._services.items()):
            if name in known and known[name].epoch >= self._epochs.get(name, 0) and not known[name].is_down:
                self._noted(name, known[name])
                service.is_at(known[name])

    def _noted(self, service: str, master: Master) -> Master:
        self._epochs[service] = master.epoch
        return master

    async def _known_to(self, sentinel: Server, complaints: list[str]) -> dict[str, Master] | None:
        """What `sentinel` answers. If it does not, adds a complaint and returns None."""
        try:
            async with time_limit(sentinel.read_timeout or _ANSWER):
                return masters(await ask(sentinel, QUESTION))
        except (RedisError, OSError, TimeoutError) as error:
            complaints.append(f"{sentinel.label}: {safe_text(error) or 'no answer in time'}")
            return None

    def _complaint(self, known: dict[str, Master], service: str) -> str:
        if service not in known:
            return f"knows no {service!r}, only {', '.join(map(repr, sorted(known))) or 'nothing'}"
        master = known[service]
        if master.is_down:
            return f"says that {master.host}:{master.port} is down"
        if master.other_sentinels < self._fewest_others:
            return f"knows only {master.other_sentinels} other Sentinels"
        return ""


class _Watch(ResidentTask):
    """Subscribes to the failovers of one set of Sentinels. Does not keep them alive."""

    _what = "the watch over Sentinels"

    def __init__(self, sentinels: Sentinels) -> None:
        super().__init__()
        self._sentinels = weakref.ref(sentinels)
        weakref.finalize(sentinels, self.abort).atexit = False

    async def _run(self) -> None:
        while (sentinels := self._sentinels()) is not None:
            sentinel = sentinels.order[0]
            del sentinels
            try:
                if await self._listen(sentinel):
                    continue
            except (RedisError, OSError, TimeoutError):
                await sleep(_WATCH_PAUSE)
            sentinels = self._sentinels()
            if sentinels is not None:
                sentinels.put_last(sentinel)

    async def _listen(self, sentinel: Server) -> bool:
        """Take in what `sentinel` knows. True once it reports a failover, False if it reports none for a while."""
        connection = sentinel.new_connection()
        try:
            async with time_limit(_WATCH_ANSWER):
                known, _ = await greet(connection, [QUESTION, ("SUBSCRIBE", "+switch-master")])
            for pause in (_AGAIN, _WATCH_LIFE):
                sentinels = self._sentinels()
                if sentinels is not None:
                    sentinels.note_masters(masters(known))
                del sentinels
                with contextlib.suppress(TimeoutError):
                    async with time_limit(pause):
                        await connection.read_response(disable_decoding=True, disconnect_on_error=False)
                        return True
            return False
        finally:
            await sockets.close(connection)


class Service(Host):
    """A host that is found by asking Sentinels."""

    switch_after = SWITCH_AFTER

    def __init__(self, name: str, sentinels: Sentinels) -> None:
        self.label = f"{name} (Sentinels {sentinels.label})"
        self.read_timeout = sentinels.options.read_timeout
        self._name = name
        self._sentinels = sentinels
        self._known: tuple[Server, int, float] | None = None
        """The master, the epoch of the answer that named it, and the time of the answer."""
        self._opened: Opened[int] = Opened()
        """Connections, each with the epoch in which it was made."""

    async def connection(self) -> AnyConnection:
        known = self._known
        if known is None or monotonic() - known[2] >= self._sentinels.refresh_interval:
            master = await self._sentinels.master(self._name)
            known = self._known = (self._sentinels.options.at(master.host, master.port), master.epoch, monotonic())
        connection = known[0].new_connection()
        self._opened.add(connection, known[1])
        return connection

    def invalidate(self, cause: object = None) -> None:
        self._known = None
        self._sentinels.put_last(self._sentinels.order[0])

    def is_at(self, master: Master) -> None:
        """Close the connections of earlier epochs.

        The messages on an old master are lost anyway, or are on the new one too, where they would be read again.
        """
        known = self._known
        if known is not None and known[1] < master.epoch:
            self._known = None
        for connection, loop, epoch in self._opened.all():
            if epoch < master.epoch:
                sockets.abort(connection, loop)
