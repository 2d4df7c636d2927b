"""Hosts that are not written down: all services that the Sentinels know, asked for at the first call.

Their names, sorted, are the order of the shards. A process asks once; a service that is added later is met after a
restart.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from redis.exceptions import RedisError

from hybrid_layer import identity
from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote.redis.options import RemoteOptions
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.statistics import Statistics, warn
from hybrid_layer.supervision import keep_going
from hybrid_layer.timers import sleep, time_limit
from hybrid_layer.transport import RemoteHalf

_PAUSE = 0.2
"""Seconds between two questions to Sentinels that do not answer."""


class DiscoveredTransport:
    """A transport that first finds out what its hosts are."""

    def __init__(self, options: RemoteOptions, build: Callable[[RemoteOptions], RemoteHalf]) -> None:
        self._options = options
        self._build = build
        self._found: dict[str, RemoteHalf] = {}
        """Empty or the one transport; several threads may find it at once, and the first one counts."""
        self._serving: tuple[identity.Identity, Future[None]] | None = None
        """The process that waits to serve the machine, and what it waits with."""

    async def open_inbox(self, part: str) -> None:
        await (await self._transport()).open_inbox(part)

    async def send(self, channel: str, payload: bytes) -> None:
        await (await self._transport()).send(channel, payload)

    async def receive(self, channel: str) -> bytes:
        return await (await self._transport(waits=True)).receive(channel)

    async def group_add(self, group: str, channel: str) -> None:
        await (await self._transport()).group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await (await self._transport()).group_discard(group, channel)

    async def group_send(self, group: str, payload: bytes) -> None:
        await (await self._transport()).group_send(group, payload)

    async def flush(self) -> None:
        await (await self._transport()).flush()

    async def close(self) -> None:
        for transport in self._found.values():
            await transport.close()

    async def statistics(self) -> dict[str, int]:
        for transport in self._found.values():
            return await transport.statistics()
        return Statistics().as_dict()

    def count(self, key: str) -> None:
        for transport in self._found.values():
            transport.count(key)

    def serve_machine(self) -> None:
        if self._found:
            self._found["found"].serve_machine()
        elif self._serving is None or not self._serving[0].is_current() or self._serving[1].done():
            self._serving = (
                identity.this_process(),
                io_thread.current().submit(
                    partial(keep_going, "the search for services", partial(_serve_machine, weakref.ref(self)), None)
                ),
            )

    async def _transport(self, waits: bool = False) -> RemoteHalf:
        """The transport, found by now; `waits` until it is, however long that takes."""
        found = self._found.get("found")
        if found is not None:
            return found
        services = self._options.all_services
        assert services is not None
        deadline = monotonic() + self._options.timeout
        cause = "no answer in time"
        while True:
            try:
                async with time_limit(None if waits else deadline - monotonic()):
                    hosts = await services.hosts()
                break
            except (RedisError, OSError, TimeoutError) as error:
                cause = str(error) or cause
                if not waits and monotonic() + _PAUSE >= deadline:
                    raise RemoteUnavailable(f"The services of the Sentinels are not known: {cause}") from None
                warn("services", f"The services of the Sentinels are not known; the layer tries again: {cause}")
            await sleep(_PAUSE)
        return self._found.setdefault("found", self._build(replace(self._options, hosts=hosts, all_services=None)))


async def _serve_machine(transport: weakref.ref[DiscoveredTransport]) -> None:
    """Serve it once the Sentinels are there, unless the layer is garbage by then."""
    while True:
        itself = transport()
        if itself is None:
            return
        try:
            (await itself._transport()).serve_machine()
            return
        except RemoteUnavailable:
            del itself
        await sleep(_PAUSE)
