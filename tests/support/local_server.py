"""A TCP server in a thread of the test run. It works whatever the test's event loop does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.closing import Closing
from tests.support.servers import HOST
from tests.support.waiting import turns

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class LocalServer(Closing):
    """Runs `serve` for each connection, in an event loop of its own, and then closes the connection."""

    def __init__(self, serve: Serve) -> None:
        self._serve_one = serve
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        """One for each connection that there was."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._do(asyncio.start_server(self._begin, HOST, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """As an entry of `hosts`."""
        return f"redis://{HOST}:{self.port}"

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine function: of that, asyncio would make a task which can be cancelled before it has the writer.
        task = self._loop.create_task(self._serve_one(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(lambda _: writer.close())

    def close(self) -> None:
        """Break everything and end."""

        async def end() -> None:
            # A server that is closed cannot take the connections that asyncio has just accepted, and leaves them open.
            self._loop.remove_reader(self._server.sockets[0].fileno())
            await turns(3)
            self._server.close()
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(others)
            for writer in self._tasks.values():
                writer.transport.abort()  # even if the client does not read what was written
            await turns()  # in which the transports are closed

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
