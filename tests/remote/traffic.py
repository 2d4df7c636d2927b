"""Messages under way while servers change their roles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid_layer.exceptions import RemoteUnavailable
from tests.remote.tools import recovered
from tests.support.waiting import cancelled, wait_until

RESUMES_WITHIN = 3.0
"""Seconds from the promotion to the first message. On an idle machine it takes one; tests run on busy ones."""


class Traffic:
    """A sender and waiting receivers, over a normal channel, a process-specific one and a group."""

    def __init__(self, layer: Any, other: Any, label: str) -> None:
        self._layer = layer
        self._other = other
        self._label = label
        self._sender = layer
        self.received: list[tuple[str, int]] = []
        self.last = 0.0
        self.sent: list[tuple[str, int]] = []
        """The messages that were acknowledged."""
        self.failures: list[str] = []
        """The errors of the other sends; each names the server by `label`."""
        self._number = 0

    async def run(self, until: Callable[[], bool]) -> None:
        """Send until `until()`, and then with the other layer until a message of each kind has come from it."""
        name = await recovered(self._layer.new_channel, 20)
        await recovered(lambda: self._layer.group_add("g", name), 20)
        receivers = [asyncio.create_task(self._receive(channel)) for channel in ("normal", name)]
        try:
            await self._send_until(name, until, "what goes on meanwhile is over", 60)
            self._sender = self._other
            first = self._number + 1

            def has_come() -> bool:
                return {kind for kind, number in self.received if number >= first} == {"normal", "direct", "group"}

            await self._send_until(name, has_come, "a message of each kind comes from the other", RESUMES_WITHIN)
        finally:
            await cancelled(*receivers)
        assert len(set(self.received)) == len(self.received), "something came twice"

    async def _send_until(self, name: str, condition: Callable[[], bool], what: str, seconds: float) -> None:
        async def send() -> bool:
            await self._send(name)
            return condition()

        if not condition():
            await wait_until(send, what, seconds)

    async def _send(self, name: str) -> None:
        self._number += 1
        for send, to, kind in (
            (self._sender.send, "normal", "normal"),
            (self._sender.send, name, "direct"),
            (self._sender.group_send, "g", "group"),
        ):
            try:
                await send(to, {"kind": kind, "n": self._number})
                self.sent.append((kind, self._number))
            except RemoteUnavailable as error:
                if self._label not in str(error):
                    raise
                self.failures.append(str(error))

    async def _receive(self, channel: str) -> None:
        while True:
            message = await self._layer.receive(channel)
            self.received.append((message["kind"], message["n"]))
