"""Thousands of processes that start, send and receive a little, and end: in order, abruptly, or killed.

    python -m tests.chaos.passing --number 10000 [--seed S]

However they end, nothing of them may stay: no slot, no block of memory, no doorbell, not a byte in /dev/shm.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import secrets
import signal
import sys
import time
from collections import Counter
from typing import NamedTuple

from asgiref.sync import async_to_sync

from hybrid_layer.ipc import IPCChannelLayer
from tests.chaos.segment import SegmentView
from tests.chaos.zygote import die_with_parent
from tests.ipc.tools import check, directory_path, is_clean, layer_of
from tests.support import django_settings
from tests.support.forked import fork
from tests.support.probe import leave_all, probe

AT_ONCE = 4
WARM_UP = 100
"""Processes after which nothing grows any more."""
STEPS = 8
ENDS = ("leave", "exit", "kill")


class Stay(NamedTuple):
    """How far one process gets, and how it ends."""

    steps: int
    end: str


def stay(layer: IPCChannelLayer, plan: Stay) -> None:
    """In a forked process."""
    die_with_parent()
    asyncio.run(_stay(layer, plan))
    leave_all()


async def _stay(layer: IPCChannelLayer, plan: Stay) -> None:
    steps = plan.steps
    own = await layer.new_channel() if steps > 0 else ""
    if steps > 1:
        await layer.group_add("passing", own)
    if steps > 2:
        await layer.send(own, {"n": 1})
    if steps > 3:
        while (await layer.receive(own))["n"] != 1:
            pass  # of another one's group_send
    if steps > 4:
        await layer.send("passing", {"n": 2})
    if steps > 5:
        with contextlib.suppress(TimeoutError):  # another may have taken ours
            async with asyncio.timeout(0.02):
                await layer.receive("passing")
    if steps > 6:
        await layer.group_send("passing", {"n": 3})
    if plan.end == "exit":
        os._exit(0)
    if plan.end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


class Passing:
    """The process that stays and counts."""

    def __init__(self, prefix: str, seed: int) -> None:
        self.prefix = prefix
        self.random = random.Random(seed)
        self.ends: Counter[str] = Counter()
        logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())

    def run(self, number: int) -> list[str]:
        """What is left of them."""
        self.layer = layer_of(self.prefix)
        self.view = SegmentView(self.layer, self.prefix, set())
        found = self._pass(WARM_UP)
        before = self._sizes()
        found += self._pass(number - WARM_UP)
        after = self._sizes()
        found += [
            f"{what}: {before[what]} before, {after[what]} after" for what in before if before[what] != after[what]
        ]
        async_to_sync(self.layer.flush)()
        probe(self.layer).segment.close()
        return found if is_clean(self.prefix) else [*found, "something is left in /dev/shm"]

    def _pass(self, number: int) -> list[str]:
        while number > 0:
            plans = [
                Stay(self.random.randint(0, STEPS - 1), self.random.choice(ENDS)) for _ in range(min(number, AT_ONCE))
            ]
            number -= len(plans)
            pids = [self._fork(plan) for plan in plans]
            for pid, plan in zip(pids, plans, strict=True):
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if code != (-signal.SIGKILL if plan.end == "kill" else 0):
                    return [f"{plan} ended with {code}"]
                self.ends[plan.end] += 1
            async_to_sync(self._take_what_is_left)()
        return self.view.complaints()

    def _fork(self, plan: Stay) -> int:
        # Half of them inherit this process's attachment; the others make a layer of their own.
        inherits = self.random.random() < 0.5
        return fork(lambda: stay(self.layer if inherits else layer_of(self.prefix), plan))

    async def _take_what_is_left(self) -> None:
        """Messages on the normal channel, which outlive their senders."""
        await self.layer.send("passing", {"n": "last"})
        while (await self.layer.receive("passing"))["n"] != "last":
            pass

    def _sizes(self) -> dict[str, int]:
        status = os.fstat(probe(self.layer).segment_descriptor)
        totals = check(self.layer)
        return {
            "bytes of the segment": status.st_blocks * 512,
            "files in its directory": len(list(directory_path(self.prefix).iterdir())),
            "blocks in use": totals["blocks"] - totals["free"],
            "slots in use": len(self.view.core.processes()),
            "descriptors of who stays": len(os.listdir("/proc/self/fd")),
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.passing", description=__doc__)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    options = parser.parse_args()
    die_with_parent()
    django_settings.configure()
    print(f"seed {options.seed}", flush=True)
    begin = time.monotonic()
    passing = Passing(f"passing-{secrets.token_hex(4)}", options.seed)
    found = passing.run(options.number)
    print(f"{passing.ends.total()} processes in {time.monotonic() - begin:.0f} s: {dict(passing.ends)}")
    for text in found:
        print(f"VIOLATION (seed {options.seed}): {text}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
