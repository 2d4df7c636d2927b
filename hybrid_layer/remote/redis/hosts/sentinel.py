"""Services of Redis Sentinel: a name that leads to whichever server is its master now.

A new connection begins with the question to a Sentinel; `sentinel_watch` hears of failovers and has the connections to
an old master closed. Sentinels may lag behind one another, so an answer counts by its epoch, which moves with each
failover.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ConnectionError, RedisError

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.redis.hosts.opened import Opened
from hybrid_layer.remote.redis.hosts.sentinel_answers import QUESTION, Master, masters
from hybrid_layer.remote.redis.hosts.sentinel_watch import Watch
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.errors import told
from hybrid_layer.remote.redis.server.handshake import ask
from hybrid_layer.remote.redis.server.server import SWITCH_AFTER, AnyConnection, Server
from hybrid_layer.timers import time_limit

_ANSWER = 0.5
"""Seconds that a Sentinel gets to answer, unless its own `socket_timeout` says otherwise."""


class Sentinels:
    """Sentinels that watch the same services. Any loop and thread may use them."""

    def __init__(self, servers: Sequence[Server], fewest_others: int = 0) -> None:
        self.label = ", ".join(server.label for server in servers)
        self._fewest_others = fewest_others
        self._order = tuple(servers)
        self._services: dict[str, Service] = {}
        self._epochs: dict[str, int] = {}
        self._watch = Watch(self)

    def service(self, name: str, options: Server, refresh_interval: float) -> Service:
        """The host that `name` stands for; `options` are those of connections to its master."""
        self._services[name] = Service(name, self, options, refresh_interval)
        return self._services[name]

    async def master(self, service: str) -> Master:
        """The living master of `service`. Raises `RedisError`."""
        self._watch.settle()
        complaints: list[str] = []
        behind = []
        for sentinel in self._order:
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
        if behind:  # all of them: they were set up anew
            return self._noted(service, max(behind, key=lambda master: master.epoch))
        raise ConnectionError(f"no Sentinel names a master. {'; '.join(complaints)}")

    async def names(self) -> list[str]:
        """The names of all services, sorted. Raises `RedisError`."""
        complaints: list[str] = []
        for sentinel in self._order:
            known = await self._known_to(sentinel, complaints)
            if known:
                return sorted(known)
            if known is not None:
                complaints.append(f"{sentinel.label} knows none")
            self.put_last(sentinel)
        raise ConnectionError("; ".join(complaints))

    @property
    def first(self) -> Server:
        """The Sentinel that is asked first."""
        return self._order[0]

    def put_last(self, sentinel: Server) -> None:
        """What `sentinel` said did not help."""
        self._order = (*(each for each in self._order if each is not sentinel), sentinel)

    def hear(self, known: dict[str, Master]) -> None:
        """Learn what a Sentinel said unasked, and leave the masters that were replaced."""
        for name, service in list(self._services.items()):
            if name in known and known[name].epoch >= self._epochs.get(name, 0) and not known[name].is_down:
                self._noted(name, known[name])
                service.is_at(known[name])

    def _noted(self, service: str, master: Master) -> Master:
        self._epochs[service] = master.epoch
        return master

    async def _known_to(self, sentinel: Server, complaints: list[str]) -> dict[str, Master] | None:
        """What `sentinel` answers; None with a complaint more if it does not."""
        try:
            async with time_limit(sentinel.read_timeout or _ANSWER):
                return masters(await ask(sentinel, QUESTION))
        except (RedisError, OSError, TimeoutError) as error:
            complaints.append(f"{sentinel.label}: {told(error) or 'no answer in time'}")
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


class Service:
    """A host (`host.Host`) that is found by asking Sentinels."""

    tag = ""
    switch_after: float | None = SWITCH_AFTER

    def __init__(self, name: str, sentinels: Sentinels, options: Server, refresh_interval: float) -> None:
        self.label = f"{name} (Sentinels {sentinels.label})"
        self.read_timeout = options.read_timeout
        self._name = name
        self._sentinels = sentinels
        self._options = options
        self._refresh_interval = refresh_interval
        self._known: tuple[Server, int, float] | None = None
        """The master, the epoch of the answer that named it, and the time of that."""
        self._opened: Opened[int] = Opened()
        """Connections, with the epoch in which they were made."""

    async def connection(self) -> AnyConnection:
        """See `host.Host`."""
        known = self._known
        if known is None or monotonic() - known[2] >= self._refresh_interval:
            master = await self._sentinels.master(self._name)
            known = self._known = (self._options.at(master.host, master.port), master.epoch, monotonic())
        connection = known[0].new_connection()
        self._opened.add(connection, known[1])
        return connection

    async def endpoint(self) -> Service:
        """See `host.Host`."""
        return self

    def invalidate(self, cause: object = None) -> None:
        """See `host.Host`."""
        self._known = None
        self._sentinels.put_last(self._sentinels.first)

    def is_at(self, master: Master) -> None:
        """Close the connections of earlier epochs.

        What an old master still holds is lost in any case, or is at the new one too, where it would be read once more.
        """
        known = self._known
        if known is not None and known[1] < master.epoch:
            self._known = None
        for connection, loop, epoch in self._opened.all():
            if epoch < master.epoch:
                sockets.abort(connection, loop)


class AllServices:
    """Whatever services some Sentinels know, as hosts."""

    def __init__(self, sentinels: Sentinels, options: Server, refresh_interval: float) -> None:
        self._sentinels = sentinels
        self._options = options
        self._refresh_interval = refresh_interval

    async def hosts(self) -> tuple[Service, ...]:
        """One for each service, by name. Raises `RedisError` if no Sentinel answers or knows any."""
        names = await self._sentinels.names()
        return tuple(self._sentinels.service(name, self._options, self._refresh_interval) for name in names)
