"""The messages that all send, numbered, and unless a question asks for others about 250 bytes as msgpack; and how a
reader is made ready for the first.
"""

from __future__ import annotations

import asyncio
from typing import Any

HELLO = -1
"""Number of a message that only finds out whether its reader hears."""
END = -2
"""Number of a sender's last message."""

TEXT = "In the evening the lamps along the harbour were lit one after another, and the last ferry came in. " * 2
# channels_redis' pub/sub layer subscribes to a normal channel in receive(): who sends earlier is not heard.
_SUBSCRIBING_TAKES = 0.1


def message(number: int, sender: int = 0, text: str = TEXT) -> dict[str, Any]:
    """`sender` and `number` identify it wherever it arrives."""
    return {"type": "bench.message", "sender": sender, "number": number, "text": text}


async def listen(layer: Any, channel: str) -> asyncio.Task[Any]:
    """A receive() that has begun: when this returns, others may send. It takes the first message, a `HELLO`."""
    task = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(_SUBSCRIBING_TAKES)
    return task
