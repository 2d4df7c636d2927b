# SPDX-License-Identifier: BSD-3-Clause
"""Where an inbox's messages come from."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Source(Protocol):
    """What an inbox asks for messages on behalf of its consumers."""

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fetch what is there while a consumer is unserved. This may call `Inbox.deliver`.

        Called in `loop` each time before a consumer there sleeps. The consumer counts as unserved by then, so a source
        that checks `unserved_loop` does not miss it.
        """

    def on_cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called in `loop` after a consumer there was cancelled."""
