"""A round: workers at work, victims killed and replaced for a while, an orderly end, and a judgement."""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import ChannelFull
from tests.chaos.arena import CHUNKS, Arena, Ledger, Phase
from tests.chaos.grinder import CHANNELS
from tests.chaos.judge import judge
from tests.chaos.life import Life
from tests.chaos.report import Report
from tests.chaos.segment import SegmentView
from tests.chaos.workers import JOBS, NOBODY, Layers, Seat, make_layers
from tests.chaos.zygote import Zygote
from tests.support.waiting import succeeds

SURVIVORS = ["web", "reader"]
VICTIMS = ["web", "web", "web", "reader", "reader", "pusher", "pusher", "grinder", "grinder", "grinder"]
PATIENCE = 20.0
"""Seconds for all workers to finish; a worker that has not by then waits for something that will not come."""


@dataclass
class Chaos:
    """A run: what its rounds have in common."""

    seed: int
    prefix: str
    interval: float
    """Seconds between two kills, on average."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.report = Report()
        self.incarnations = itertools.count(1)
        self.directory = Path(tempfile.mkdtemp(prefix="hybrid-layer-chaos-"))
        self.arena = Arena(self.directory / "arena")
        # Before this process has anything that a child should not inherit.
        self.zygotes = [Zygote(self.arena, self.prefix, attached) for attached in (False, True)]
        self.layers: Layers = make_layers(self.prefix)
        self.segment = SegmentView(self.layers.usual, self.prefix, {zygote.pid for zygote in self.zygotes})

    def round(self, seconds: float) -> list[str]:
        """The faults that were found."""
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        try:
            return _Round(self, directory).run(seconds)
        finally:
            shutil.rmtree(directory)

    def close(self) -> None:
        for zygote in self.zygotes:
            zygote.close()
        async_to_sync(self.layers.usual.flush)()
        shutil.rmtree(self.directory)


class _Round:
    def __init__(self, chaos: Chaos, directory: Path) -> None:
        self.chaos = chaos
        self.directory = directory
        self.arena = chaos.arena
        self.random = chaos.random
        self.ledger = Ledger(directory)
        self.chunks = iter(range(CHUNKS))
        self.lives: list[Life] = []
        self.seats: list[Life] = []
        """The worker that is there now."""
        self.found: list[str] = []

    def run(self, seconds: float) -> list[str]:
        rebuilds = self.chaos.segment.rebuilds
        self.arena.phase = Phase.WORK
        for number, role in enumerate([*SURVIVORS, *VICTIMS]):
            self.seats.append(self._start(number, role))
        self._kill_for(seconds)
        self._finish()
        self._drain_grinders()
        self.found += self.chaos.segment.complaints()
        self.chaos.report.rebuilds += self.chaos.segment.rebuilds - rebuilds
        self.found += judge(self.directory, self.lives, self.ledger, self.chaos.report)
        return self.found

    def _start(self, number: int, role: str) -> Life:
        chunk = next(self.chunks) if role == "grinder" else 0
        incarnation = next(self.chaos.incarnations)
        seat = Seat(number, incarnation, self.random.getrandbits(32), role, chunk, self.directory)
        life = Life(seat, self.random.choice(self.chaos.zygotes))
        self.lives.append(life)
        self.arena.clear(number)
        life.zygote.start(seat)
        return life

    def _kill_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.found:
            self.chaos.report.sleep(self.random.expovariate(1 / self.chaos.interval))
            number = self.random.randrange(len(SURVIVORS), len(self.seats))
            self._kill(self.seats[number])
            self.seats[number] = self._start(number, self.seats[number].seat.role)

    def _kill(self, life: Life) -> None:
        before, after, code = life.zygote.kill(life.seat)
        life.killed = before, after
        doing = self.arena.doing(life.seat.number)
        self.chaos.report.killed(life.seat.role, doing)
        if code != -9:
            self.found.append(f"{life} ended by itself, with {code}, while {doing.name}")

    # The end

    def _finish(self) -> None:
        """Senders stop; then a last message on each channel, one for each reader; then all end."""
        self.arena.phase = Phase.FINISH
        if not self._within(lambda life: self.arena.is_finished(life.seat.number), "does not stop to send"):
            return
        async_to_sync(self._send_last)()
        waiting = list(self.seats)

        def has_ended(life: Life) -> bool:
            code = life.zygote.has_ended(life.seat)
            if code is not None:
                waiting.remove(life)
                if code != 0:
                    self.found.append(f"{life} ended with {code}")
            return code is not None

        self._within(has_ended, "waits for a message that should be there")
        for life in waiting:
            self._kill(life)

    def _within(self, is_done: Callable[[Life], bool], what: str) -> bool:
        """Whether it is done for all seats within the time."""
        until = time.monotonic() + PATIENCE
        left = list(self.seats)
        while left:
            left = [life for life in left if not is_done(life)]
            if time.monotonic() > until:
                self.found += [f"{life} {what}, {self.arena.doing(life.seat.number).name}" for life in left]
                return False
            self.chaos.report.sleep(0.01)
        return True

    async def _send_last(self) -> None:
        layer = self.chaos.layers.usual
        last = {"s": NOBODY, "n": 0, "x": b""}
        for channel in self._last_channels():
            try:
                await succeeds(partial(layer.send, channel, last), ChannelFull, seconds=PATIENCE)
            except ChannelFull:
                self.found.append(f"{channel} stays full")
                return

    def _last_channels(self) -> Iterator[str]:
        for life in self.seats:
            if life.seat.role == "reader":
                yield from JOBS
            elif life.seat.role == "web":
                yield from self.arena.names(life.seat.number)[1]

    def _drain_grinders(self) -> None:
        core = self.chaos.segment.core
        for channel in CHANNELS:
            while (payload := core.pop(channel, -1)[0]) is not None:
                self.ledger.taken[int.from_bytes(payload[:4], "little")] += 1
