# SPDX-License-Identifier: BSD-3-Clause
"""Hosts that `hosts` does not name: all services that the Sentinels know when a process makes its first call.

The sorted names give the order of the shards. A process asks once: it uses a later service only after a restart.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from redis.exceptions import RedisError

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.identity import PerProcess, this_process
from hybrid_layer.remote.redis.hosts.sentinel import Sentinels
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.statistics import ChannelStatistics, Statistics, warn
from hybrid_layer.supervision import keep_going
from hybrid_layer.timers import sleep, time_limit
from hybrid_layer.transport import Excluded, RemoteHalf

_PAUSE = 0.2
"""Seconds between two questions to Sentinels that do not answer."""


class DiscoveredTransport:
    """A transport that finds its hosts at the first call, and passes all calls to a transport over them."""

    def __init__(self, services: Sentinels, timeout: float, build: Callable[[Sequence[Host]], RemoteHalf]) -> None:
        self._services = services
        self._timeout = timeout
        self._build = build
        self._found: RemoteHalf | None = None
        self._search: PerProcess[Future[None]] = PerProcess()
        """The search for the services by a process that waits to serve the machine."""

    async def open_inbox(self, inbox: str) -> None:
        await (await self._transport()).open_inbox(inbox)

    async def send(self, channel: str, payload: bytes, expiry: float | None = None) -> None:
        await (await self._transport()).send(channel, payload, expiry)

    async def send_multiple(self, channel: str, payloads: Sequence[bytes]) -> None:
        await (await self._transport()).send_multiple(channel, payloads)

    async def receive(self, channel: str) -> bytes:
        return await (await self._transport(waits=True)).receive(channel)

    async def group_add(self, group: str, channel: str) -> None:
        await (await self._transport()).group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await (await self._transport()).group_discard(group, channel)

    async def group_send(self, group: str, payload: bytes) -> None:
        await (await self._transport()).group_send(group, payload)

    async def group_send_multiple(self, group: str, payloads: Sequence[bytes], excluded: Excluded) -> None:
        await (await self._transport()).group_send_multiple(group, payloads, excluded)

    async def group_channels(self, group: str, ends: bool) -> list[str]:
        return await (await self._transport()).group_channels(group, ends)

    async def flush(self) -> None:
        await (await self._transport()).flush()

    async def close(self) -> None:
        if self._found is not None:
            await self._found.close()

    async def statistics(self) -> dict[str, int]:
        try:
            transport = await self._transport()
        except RemoteUnavailable as error:
            warn("statistics of services", f"Statistics lack all that was counted on servers: {error}")
            return Statistics().as_dict()
        return await transport.statistics()

    async def channel_statistics(self, channel: str) -> ChannelStatistics:
        return await (await self._transport()).channel_statistics(channel)

    def count(self, key: str) -> None:
        if self._found is not None:
            self._found.count(key)

    async def open_machine(self) -> None:
        await (await self._transport()).open_machine()

    def waits(self, channel: str) -> None:
        if self._found is not None:
            self._found.waits(channel)

    def serve_machine(self) -> None:
        if self._found is not None:
            self._found.serve_machine()
            return
        search = self._search.peek()
        if search is not None and search.done():
            self._search.clear()
        self._search.get(self._begin_search)

    def _begin_search(self) -> Future[None]:
        serve = partial(_serve_machine, weakref.ref(self))
        return io_thread.current().submit(partial(keep_going, "the search for services", serve, None))

    async def _transport(self, waits: bool = False) -> RemoteHalf:
        """The transport over the hosts. Raises `RemoteUnavailable` within the timeout, unless `waits`."""
        if self._found is not None:
            return self._found
        deadline = monotonic() + self._timeout
        cause = "no answer in time"
        while True:
            try:
                async with time_limit(None if waits else deadline - monotonic()):
                    hosts = await self._services.hosts()
                break
            except (RedisError, OSError, TimeoutError) as error:
                cause = str(error) or cause
                if not waits and monotonic() + _PAUSE >= deadline:
                    raise RemoteUnavailable(f"The services of the Sentinels are not known: {cause}") from None
                warn("services", f"The services of the Sentinels are not known; the layer tries again: {cause}")
            await sleep(_PAUSE)
        with this_process().lock:
            if self._found is None:  # else another loop or thread was faster
                self._found = self._build(hosts)
            return self._found


async def _serve_machine(transport: weakref.ref[DiscoveredTransport]) -> None:
    """Serve the machine once the Sentinels answer, unless the layer is garbage by then."""
    while (itself := transport()) is not None:
        try:
            (await itself._transport()).serve_machine()
            return
        except RemoteUnavailable:
            del itself
        await sleep(_PAUSE)
