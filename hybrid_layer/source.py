"""Where an inbox's messages come from."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Source(Protocol):
    """What an inbox asks for messages on behalf of its consumers."""

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pull what is there, perhaps by calls of `Inbox.deliver`, if somebody is unserved.

        Called each time before a consumer in `loop`, which runs here, sleeps, when it counts as unserved already: so a
        source that looks at `unserved_loop` cannot miss it.
        """

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        """A consumer in `loop`, which runs here, was cancelled."""
