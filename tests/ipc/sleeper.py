"""A loop as the segment sees one, without asyncio."""

from __future__ import annotations

import os
import select

from hybrid_layer.ipc import _core


class Sleeper:
    """A loop that waits for one channel and is woken by its doorbell alone: it never looks for itself."""

    def __init__(self, core: _core.Segment, channel: str) -> None:
        self.core = core
        self.channel = channel
        self.number = core.open_loop()
        path = core.doorbell(self.number)
        os.mkfifo(path, 0o600)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def sleep(self) -> int:
        """How many messages there were."""
        number = 0
        while self.core.pop(self.channel, self.number)[0] is not None:
            number += 1
        while self.core.collect(self.number, True) is not None:
            pass
        return number

    def is_rung(self) -> bool:
        """Whether a byte lies in the doorbell; takes it."""
        if not select.select([self.fd], [], [], 0)[0]:
            return False
        os.read(self.fd, 100)
        return True
