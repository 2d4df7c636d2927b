"""Queues two jobs and prints what they report. See jobs.py."""

from __future__ import annotations

import asyncio

from channels.layers import get_channel_layer
from jobs import count

STEPS = 20


async def main() -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    for job in ("first", "second"):
        await asyncio.to_thread(count.delay, channel, job, STEPS)
    for _ in range(2 * STEPS):
        report = await layer.receive(channel)
        print("{job}: step {step}, process {process}".format_map(report), flush=True)
    await layer.close()


asyncio.run(main())
