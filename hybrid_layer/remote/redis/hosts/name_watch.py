"""Looks again and again where the name of a host leads. Lives in the I/O thread."""

from __future__ import annotations

import weakref
from typing import Protocol

from hybrid_layer.remote.runtime.resident_task import ResidentTask
from hybrid_layer.timers import sleep

_AGAIN = 0.5
"""Seconds between two looks, once there is a reason: connections may still be under way to the old server."""


class Watched(Protocol):
    """A host that is found by its name: a `named_host.NamedHost`."""

    pause: float
    """Seconds between two looks."""

    async def look(self) -> bool:
        """Look where the name leads. True if that is another place than before."""


class NameWatch(ResidentTask):
    """Of one host, which it does not keep alive."""

    _what = "the watch over a host name"

    def __init__(self, host: Watched) -> None:
        super().__init__()
        self._host = weakref.ref(host)
        self._pause = host.pause
        weakref.finalize(host, self.abort).atexit = False

    async def _run(self) -> None:
        is_settled = False  # at first it looks soon, to know whom the first connections lead to
        while True:
            await sleep(_AGAIN)
            if is_settled:
                await self._wait(self._pause - _AGAIN)
            host = self._host()
            if host is None:
                return
            is_settled = not await host.look()
            del host
