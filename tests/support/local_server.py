"""A TCP server in a thread of the test run. It works whatever the test's event loop does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.support.closing import Closing
from tests.support.servers import HOST

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class LocalServer(Closing):
    """Runs `serve` for each connection, in an event loop of its own."""

    def __init__(self, serve: Serve) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        """Cancelled at the end."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._do(asyncio.start_server(serve, HOST, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """As an entry of `hosts`."""
        return f"redis://{HOST}:{self.port}"

    def close(self) -> None:
        """Break everything and end."""

        async def end() -> None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
