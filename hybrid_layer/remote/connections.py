"""Which connection a command travels on, and what happens to answers that mean "not now".

Two tiers. A loop that lives, since it waited in `receive()` or is older than a second, has its own `Link` per server.
The others hand their commands to the I/O thread, whose loop has the same. So a process has at most one sending
connection per server and living loop, and one per server for the I/O thread.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.loops import LoopLocal
from hybrid_layer.remote import io_thread, scripts
from hybrid_layer.remote.handshake import Command
from hybrid_layer.remote.hosts import Host
from hybrid_layer.remote.link import Link, NotConnected, unavailable

if TYPE_CHECKING:
    from hybrid_layer.remote.queue_reader import QueueReader

_LIVING_AGE = 1.0
"""Seconds after which a loop is taken for one that stays."""
_RETRY_PAUSE = 0.1
"""Seconds between two tries with a server that says that it is not ready."""

_ELSEWHERE = (ReadOnlyError, MasterDownError)
"""The name may lead to another server by now."""
_NOT_NOW = (*_ELSEWHERE, BusyLoadingError, ClusterDownError)
"""Nothing was executed, so the command may be sent again."""
_REFUSAL = re.compile(r"(?:Error running script.*? -)?([A-Z]+) (.*)", re.DOTALL)
_BY_CODE: dict[str, type[ResponseError]] = {
    "READONLY": ReadOnlyError,
    "MASTERDOWN": MasterDownError,
    "CLUSTERDOWN": ClusterDownError,
}


class LoopConnections:
    """What one event loop has open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.links: dict[int, Link] = {}
        self.readers: dict[int, QueueReader] = {}
        self.stoppers: list[Callable[[], None]] = []
        """What ends the blocking readers of the loop at once."""
        self._born = time.monotonic()
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
        """Whether the loop lives long enough for connections of its own."""
        if self._ends:
            return False
        if not self._stays:
            self._stays = time.monotonic() - self._born > _LIVING_AGE
        return self._stays

    def will_stay(self) -> None:
        """It waits in `receive()`."""
        self._stays = True

    def ends(self) -> None:
        """Its tasks are being cancelled."""
        self._ends = True


class Connections:
    """The sending connections of one process and layer."""

    def __init__(self, hosts: tuple[Host, ...], timeout: float, on_lost: Callable[[int], None]) -> None:
        self.hosts = hosts
        self.timeout = timeout
        self._on_lost = on_lost
        self._abandoned = False
        self.loops: LoopLocal[LoopConnections] = LoopLocal(LoopConnections, _abort)

    async def run(self, shard: int, command: Command) -> Any:
        """The reply to `command` from the server of `shard`. Raises `RemoteUnavailable` within the timeout."""
        here = self.loops.get()
        deadline = time.monotonic() + self.timeout
        if here.stays() or here.is_thread:
            while here.hops:  # the loop has only just turned out to stay; what was called before comes first
                await here.landed.wait()
            return await self._run(here, shard, command, deadline)
        here.hops += 1
        here.landed.clear()
        try:
            return await io_thread.current().run(lambda: self._run(self.loops.get(), shard, command, deadline))
        finally:
            here.hops -= 1
            if not here.hops:
                here.landed.set()

    async def run_in_thread(self, shard: int, command: Command) -> Any:
        """As `run`, in the I/O thread, for what must not depend on the running loop."""
        deadline = time.monotonic() + self.timeout
        return await io_thread.current().run(lambda: self._run(self.loops.get(), shard, command, deadline))

    def run_later(self, shard: int, command: Command) -> None:
        """Have the I/O thread run `command`; nobody looks at its reply."""
        deadline = time.monotonic() + self.timeout
        future = io_thread.current().submit(lambda: self._run(self.loops.get(), shard, command, deadline))
        future.add_done_callback(lambda done: None if done.cancelled() else done.exception() and None)

    async def close_links(self) -> None:
        """Close the running loop's sending connections, after the replies under way."""
        here = self.loops.peek(asyncio.get_running_loop())
        if here is not None:
            await asyncio.gather(*(link.close() for link in here.links.values()))

    def abandon(self) -> None:
        """Close everything, in every loop. For a layer that is garbage."""
        self._abandoned = True
        for state in self.loops.all():
            try:
                state.loop.call_soon_threadsafe(self._drop_if_idle, state)
            except RuntimeError:  # the loop is closed
                pass

    async def _run(self, here: LoopConnections, shard: int, command: Command, deadline: float) -> Any:
        here.calls += 1
        try:
            return await self._try(here, shard, command, deadline)
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
            link = self._link(here, shard)
            try:
                reply = await link.call(command, deadline)
            except NotConnected as error:
                cause = cause or error
                if host.switch_after is None or time.monotonic() + _RETRY_PAUSE >= deadline:
                    raise RemoteUnavailable(str(cause)) from None
                host.forget()
                await asyncio.sleep(_RETRY_PAUSE)
                continue
            if not isinstance(reply, Exception):
                return reply
            reply = _unwrapped(reply)
            if isinstance(reply, NoScriptError) and command[0] == "EVALSHA":
                await link.call(("SCRIPT", "LOAD", scripts.BY_SHA[str(command[1])].source), deadline)
            elif isinstance(reply, _NOT_NOW) and time.monotonic() + _RETRY_PAUSE < deadline:
                cause = cause or unavailable(host, reply)
                if isinstance(reply, _ELSEWHERE) and here.links.get(shard) is link:
                    del here.links[shard]
                    host.forget()
                    self._on_lost(shard)
                    await link.close()
                await asyncio.sleep(_RETRY_PAUSE)
            else:
                raise unavailable(host, reply)

    def _link(self, here: LoopConnections, shard: int) -> Link:
        link = here.links.get(shard)
        if link is None or not link.usable:
            if here.is_thread and not here.stays():
                raise RemoteUnavailable("The call was cut short: the process forks or ends.")

            def ended(link: Link, broke: bool) -> None:
                if here.links.get(shard) is link:
                    del here.links[shard]
                if link.was_cancelled:
                    here.ends()
                elif broke:
                    self._on_lost(shard)

            link = here.links[shard] = Link(self.hosts[shard], self.timeout, ended)
        return link


def _unwrapped(error: Exception) -> Exception:
    """The refusal behind `error`: Redis before 7 wraps those that a script meets, redis-py 5 has no class for some."""
    found = _REFUSAL.match(str(error))
    if found is None or type(error) is not ResponseError:
        return error
    return _BY_CODE.get(found[1], ResponseError)(f"{found[1]} {found[2]}")


def _abort(state: LoopConnections) -> None:
    state.ends()
    for reader in state.readers.values():
        reader.abort()
    for stop in state.stoppers:
        stop()
    for link in list(state.links.values()):
        link.abort()
