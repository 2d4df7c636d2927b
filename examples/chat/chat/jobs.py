"""The background job, as `manage.py runworker jobs` does it: pi, by throwing darts at a square.

It reports to the tab that asked, over that tab's own channel, from whatever process it runs in. Nothing else connects
the two: no socket, no database, no result store.
"""

import asyncio
import os
import random
import time
from typing import Any

from channels.consumer import AsyncConsumer
from channels.exceptions import ChannelFull

STEPS = 40
STEP_SECONDS = 0.15


class JobConsumer(AsyncConsumer):
    async def job_run(self, message: dict[str, Any]) -> None:
        """One job after the other; more of them at once are a matter of more workers."""
        began = time.monotonic()
        inside = thrown = 0
        for step in range(1, STEPS + 1):
            # In a thread, so that the worker's event loop goes on while the darts fly.
            more_inside, more_thrown = await asyncio.to_thread(throw_darts, STEP_SECONDS)
            inside += more_inside
            thrown += more_thrown
            report = {
                "type": "job.report",
                "job": message["job"],
                "state": "done" if step == STEPS else "running",
                "worker": os.getpid(),
                "step": step,
                "steps": STEPS,
                "pi": 4 * inside / thrown,
                "darts": thrown,
                "seconds": time.monotonic() - began,
            }
            await self.report(message["reply_to"], report, tries=5 if step == STEPS else 1)

    async def report(self, channel: str, report: dict[str, Any], tries: int) -> None:
        """A step that finds its reader's inbox full is left out: the next one says more. The result is worth a wait."""
        for attempt in range(1, tries + 1):
            try:
                await self.channel_layer.send(channel, report)
                return
            except (ChannelFull, ConnectionError):
                if attempt < tries:
                    await asyncio.sleep(0.2 * attempt)


def throw_darts(seconds: float) -> tuple[int, int]:
    """How many landed inside the quarter circle, and how many were thrown."""
    inside = thrown = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        inside += sum(random.random() ** 2 + random.random() ** 2 <= 1 for _ in range(2000))
        thrown += 2000
    return inside, thrown
