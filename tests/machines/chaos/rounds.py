"""A run: workers at work on all machines, faults for a while, an orderly end, and a judgement."""

from __future__ import annotations

import itertools
import math
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.arena import Arena, Phase
from tests.machines.chaos.judge import Life, Outage, Outages, Report, judge
from tests.machines.chaos.workers import MACHINES, WORKERS, Seat, work
from tests.support.closing import Closing
from tests.support.guardian import guardian
from tests.support.machines import Network
from tests.support.waiting import block, block_until

LONGEST_STOP = 1.0
LONGEST_CUT = 3.0
BETWEEN_OUTAGES = 8.0
"""Seconds, on average."""
PATIENCE = 30.0
"""Seconds for all workers to finish, and for what they have sent to arrive."""


class Run(Closing):
    """`faults` counts what was done, by name."""

    def __init__(self, seed: int, prefix: str, servers: int, remote: str, locality: str, interval: float) -> None:
        self.random = random.Random(seed)
        self.interval = interval
        self.faults: Counter[str] = Counter()
        self.outages: Outages = []
        self.lives: list[Life] = []
        self.seats: list[Life] = []
        """The worker that is there now."""
        self.stopped: dict[Life, float] = {}
        """Until when."""
        self.cut: dict[int, tuple[float, float]] = {}
        """Machines that are cut off: since when, and until when."""
        self._incarnations = itertools.count(1)
        self._directory = Path(tempfile.mkdtemp(prefix="hybrid-layer-chaos-"))
        guardian.watch("directory", self._directory)
        self._arena = Arena(self._directory / "arena")
        self._network = Network()
        try:
            self._servers = [self._network.server() for _ in range(servers)]
            self._machines = [self._network.machine() for _ in range(MACHINES)]
        except BaseException:
            self.close()
            raise
        self._options: dict[str, Any] = {
            "prefix": prefix,
            "hosts": [server.url for server in self._servers],
            "remote": remote,
            "locality": locality,
            "timeout": 2,
            # Own channels have room for all that may come while their reader gets no processor: a drop is no finding.
            "capacity": 20_000,
            "channel_capacity": {"jobs.*": 40},
        }

    def run(self, seconds: float) -> Report:
        """What was found."""
        self._arena.phase = Phase.WORK
        for number in range(MACHINES * WORKERS):
            self.seats.append(self._start(number))
        self._disturb(seconds)
        self._arena.phase = Phase.FINISH
        for life in self.seats:
            block_until(lambda n=life.seat.number: self._arena.is_finished(n), f"{life} finishes", PATIENCE)  # type: ignore[misc]
        until = time.monotonic() + PATIENCE
        while self._judge().found and time.monotonic() < until:
            block(time.monotonic() + 0.5)  # what is under way may still come
        for life in self.seats:
            life.process.send(None)
        for life in self.seats:
            life.process.result()
        report = self._judge()
        report.figures += self.faults
        return report

    def close(self) -> None:
        self._network.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        guardian.forget("directory", self._directory)

    def _judge(self) -> Report:
        return judge(self._directory, self.lives, self.outages, len(self._servers), self._options["locality"])

    def _start(self, number: int) -> Life:
        seat = Seat(number, next(self._incarnations), self.random.getrandbits(32), self._directory)
        self._arena.clear(number)
        process = self._machines[seat.machine].spawn(work, seat, self._directory / "arena", self._options)
        life = Life(seat, process)
        self.lives.append(life)
        return life

    def _disturb(self, seconds: float) -> None:
        """The first worker of each machine is never killed."""
        until = time.monotonic() + seconds
        outage = time.monotonic() + self.random.uniform(2, BETWEEN_OUTAGES)
        while (now := time.monotonic()) < until:
            block(now + self.random.expovariate(1 / self.interval))
            self._end_what_is_over()
            if now > outage:
                self.random.choice([self._restart_a_server, self._cut_a_machine])()
                outage = time.monotonic() + self.random.expovariate(1 / BETWEEN_OUTAGES)
            elif self.random.random() < 0.3:
                self._stop(self.random.choice(self.seats))
            else:
                self._kill(self.random.choice([life for life in self.seats if life.seat.number % WORKERS]))
        self._end_what_is_over(everything=True)

    def _kill(self, life: Life) -> None:
        self.stopped.pop(life, None)
        before = time.monotonic()
        life.process.kill()
        life.killed = before, time.monotonic()
        life.process.close()
        self.faults["kills"] += 1
        self.seats[life.seat.number] = self._start(life.seat.number)

    def _stop(self, life: Life) -> None:
        if life not in self.stopped:
            life.stops.append([time.monotonic(), math.inf])
            life.process.pause()
            self.stopped[life] = time.monotonic() + self.random.uniform(0, LONGEST_STOP)
            self.faults["stops"] += 1

    def _end_what_is_over(self, everything: bool = False) -> None:
        now = time.monotonic()
        for life, until in list(self.stopped.items()):
            if everything or now > until:
                del self.stopped[life]
                life.process.resume()
                life.stops[-1][1] = time.monotonic()
        for machine, (since, until) in list(self.cut.items()):
            if everything or now > until:
                del self.cut[machine]
                self._machines[machine].heal()
                self.outages.append(Outage(since, time.monotonic(), machine))

    def _cut_a_machine(self) -> None:
        machine = self.random.randrange(MACHINES)
        if machine not in self.cut:
            now = time.monotonic()
            self._machines[machine].cut()
            self.cut[machine] = now, now + self.random.uniform(0, LONGEST_CUT)
            self.faults["cuts of a machine"] += 1

    def _restart_a_server(self) -> None:
        server = self.random.choice(self._servers)
        down = time.monotonic()
        server.kill()
        block(time.monotonic() + self.random.choice([0, 0.5]))
        server.restart()
        self.outages.append(Outage(down, time.monotonic()))
        self.faults["restarts of a server"] += 1
