"""Which connection a command travels on, and what happens to answers that mean "not now".

Two tiers. A loop that lives, since it waited in `receive()`, is older than a second or has made twenty calls, has its
own `Link` per server. The others hand their commands to the I/O thread, whose loop has the same. So a process has at
most one sending connection per server and living loop, and one per server for the I/O thread. The shards of a cluster
that are at one node share its links.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from redis.exceptions import NoScriptError, RedisError

from hybrid_layer.clock import monotonic
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.loops import LoopLocal
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.pipelined_connection import Link
from hybrid_layer.remote.redis.hosts.hosts import Host
from hybrid_layer.remote.redis.server.commands import Command
from hybrid_layer.remote.redis.server.errors import (
    FINAL,
    NotConnected,
    is_elsewhere,
    is_not_now,
    unavailable,
    unwrapped,
)
from hybrid_layer.remote.redis.server.replies import OddReply, Shape
from hybrid_layer.remote.runtime import io_thread
from hybrid_layer.supervision import Count
from hybrid_layer.timers import sleep, time_limit

_LIVING_AGE = 1.0
"""Seconds after which a loop is taken for one that stays."""
_LIVING_CALLS = 20
"""Commands after which it is, too. By the I/O thread, so many take about as long as to open a connection."""
_RETRY_PAUSE = 0.1
"""Seconds between two tries with a server that says that it is not ready."""
_FOR_AN_ANSWER = 0.1
"""Seconds that must be left for another try: one whose answer does not come in time costs the link, and is doubtful."""


class LoopReader(Protocol):
    """A reader of normal channels in one event loop: a `queue_reader.QueueReader`."""

    async def receive(self, channel: str) -> bytes:
        """Wait for the next message of `channel`."""

    def is_awaited(self) -> bool:
        """Whether a coroutine waits here."""

    async def stop(self) -> None:
        """End the reading, losing nothing."""

    def abort(self) -> None:
        """End the reading at once."""


class LoopConnections:
    """What one event loop has open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.links: dict[int, Link] = {}
        """By shard; several may have the same."""
        self.readers: dict[int, LoopReader] = {}
        """By shard."""
        self.stoppers: list[Callable[[], None]] = []
        """What ends the blocking readers of the loop at once."""
        self._born = monotonic()
        self.hopped = 0
        """Commands that went by the I/O thread, so far."""
        self.calls = 0
        """Commands under way."""
        self.hops = 0
        """Commands under way by the I/O thread."""
        self.landed = asyncio.Event()
        """Set when there are none any more."""
        self.is_thread = io_thread.is_here()
        self._stays = self.is_thread
        self._ends = False

    def stays(self) -> bool:
        """Whether the loop is worth connections of its own."""
        if self._ends:
            return False
        if not self._stays:
            self._stays = self.hopped >= _LIVING_CALLS or monotonic() - self._born > _LIVING_AGE
        return self._stays

    def will_stay(self) -> None:
        """It waits in `receive()`."""
        self._stays = True

    def ends(self) -> None:
        """Its tasks are being cancelled."""
        self._ends = True


class Connections:
    """The sending connections of one process and layer."""

    def __init__(self, hosts: tuple[Host, ...], timeout: float, on_lost: Callable[[int], None], count: Count) -> None:
        self.hosts = hosts
        self.timeout = timeout
        self._on_lost = on_lost
        self._count = count
        self._abandoned = False
        self.loops: LoopLocal[LoopConnections] = LoopLocal(LoopConnections, _abort)

    async def run(self, shard: int, command: Command, shape: Shape | None = None) -> Any:
        """The reply to `command` from the server of `shard`. Raises `RemoteUnavailable` within the timeout.

        `shape` says which replies can be used; any other is an error of the server.
        """
        here = self.loops.get()
        deadline = monotonic() + self.timeout
        if here.stays() or here.is_thread:
            while here.hops:  # the loop has only just turned out to stay; what was called before comes first
                await here.landed.wait()
            return await self._run(here, shard, command, deadline, shape)
        here.hopped += 1
        here.hops += 1
        here.landed.clear()
        try:
            return await io_thread.current().run(
                lambda: self._run(self.loops.get(), shard, command, deadline, shape), self.timeout
            )
        finally:
            here.hops -= 1
            if not here.hops:
                here.landed.set()

    def run_later(self, shard: int, command: Command) -> None:
        """Have the I/O thread run `command`; nobody looks at its reply."""
        deadline = monotonic() + self.timeout
        future = io_thread.current().submit(lambda: self._run(self.loops.get(), shard, command, deadline))
        future.add_done_callback(lambda done: None if done.cancelled() else done.exception() and None)

    async def close_links(self) -> None:
        """Close the running loop's sending connections, after the replies under way."""
        here = self.loops.peek(asyncio.get_running_loop())
        if here is not None:
            await asyncio.gather(*(link.close() for link in set(here.links.values())))

    def abandon(self) -> None:
        """Close everything, in every loop. For a layer that is garbage."""
        self._abandoned = True
        for state in self.loops.all():
            try:
                state.loop.call_soon_threadsafe(self._drop_if_idle, state)
            except RuntimeError:  # the loop is closed
                pass

    async def _run(
        self, here: LoopConnections, shard: int, command: Command, deadline: float, shape: Shape | None = None
    ) -> Any:
        here.calls += 1
        try:
            reply = await self._try(here, shard, command, deadline)
            if shape is not None and not shape(reply):
                raise unavailable(self.hosts[shard], OddReply(scripts.name_of(command), reply))
            return reply
        finally:
            here.calls -= 1
            if self._abandoned:
                self._drop_if_idle(here)

    def _drop_if_idle(self, here: LoopConnections) -> None:
        # What the layer left to do, such as to put a message back, is done before its connections go.
        if not here.calls:
            self.loops.drop(here.loop)

    async def _try(self, here: LoopConnections, shard: int, command: Command, deadline: float) -> Any:
        host = self.hosts[shard]
        cause: RemoteUnavailable | None = None
        while True:
            try:
                link = here.links.get(shard)
                if link is None or not link.usable:
                    link = await self._find_link(here, shard, deadline)
                reply = await link.call(command, deadline)
            except NotConnected as error:
                cause = cause or error
                if host.switch_after is None or monotonic() + _RETRY_PAUSE >= deadline:
                    raise RemoteUnavailable(str(cause)) from None
                host.forget(error)
                await sleep(_RETRY_PAUSE)
                continue
            if not isinstance(reply, Exception):
                return reply
            reply = unwrapped(reply)
            if isinstance(reply, NoScriptError) and command[0] == "EVALSHA":
                reply = await link.call(("SCRIPT", "LOAD", scripts.BY_SHA[str(command[1])].source), deadline)
                if not isinstance(reply, Exception):
                    continue
                reply = unwrapped(reply)
            if is_not_now(reply, bool(host.tag)) and monotonic() + _RETRY_PAUSE + _FOR_AN_ANSWER < deadline:
                cause = cause or unavailable(host, reply)
                if is_elsewhere(reply, bool(host.tag)) and here.links.get(shard) is link:
                    del here.links[shard]
                    host.forget(reply)
                    self._on_lost(shard)
                    if link not in here.links.values():
                        await link.close()
                await sleep(_RETRY_PAUSE)
            else:
                raise unavailable(host, reply)

    async def _find_link(self, here: LoopConnections, shard: int, deadline: float) -> Link:
        """The link to where `shard` is now, which is opened if no other shard has it. Raises `RemoteUnavailable`."""
        place = await self._place(shard, deadline)
        found = here.links.get(shard)
        if found is not None and found.usable:  # another call was quicker, perhaps with another answer
            return found
        known = next((link for link in here.links.values() if link.host is place and link.usable), None)
        if known is None:
            if here.is_thread and not here.stays():
                raise RemoteUnavailable("The call was cut short: the process forks or ends.")
            known = Link(place, self.timeout, lambda link, broke: self._link_ended(here, link, broke), self._count)
        here.links[shard] = known
        return known

    async def _place(self, shard: int, deadline: float) -> Host:
        host = self.hosts[shard]
        try:
            async with time_limit(deadline - monotonic()):
                return await host.place()
        except FINAL as error:
            raise unavailable(host, error) from None
        except (RedisError, OSError, TimeoutError) as error:
            raise NotConnected(str(unavailable(host, str(error) or "no answer in time"))) from None

    def _link_ended(self, here: LoopConnections, link: Link, broke: bool) -> None:
        shards = [shard for shard, each in here.links.items() if each is link]
        for shard in shards:
            del here.links[shard]
        if link.was_cancelled:
            here.ends()
        elif broke:
            for shard in shards:
                self._on_lost(shard)


def _abort(state: LoopConnections) -> None:
    state.ends()
    for reader in state.readers.values():
        reader.abort()
    for stop in list(state.stoppers):
        stop()
    for link in set(state.links.values()):
        link.abort()
