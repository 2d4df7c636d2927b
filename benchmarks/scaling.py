"""``python -m benchmarks.scaling RESULTS.json``: on paper, past this machine.

What a site of many machines asks of Redis, computed from the costs that ``python -m benchmarks --json`` measured on
one. The model is small enough to doubt each line of it:

- A group send costs the server a script, something for each process that has members, something for each member. These
  come from groups of 2 to 1,000 members in two processes and of 8 in eight.
- A message on a process-specific channel, and a job on a normal one, costs what a round trip's messages cost the
  server. In the hybrid, jobs that stay on their machine cost it nothing.
- Consumers are in random groups: m members in T processes are in T * (1 - (1 - 1/T)^m) of them.
- By machine, the servers know machines in place of processes, and no members. The sender's own machine costs nothing;
  each other one that has members costs what one machine with 32 members does. Direct messages come from all machines
  alike, so one in N stays on its own.
- Costs add up. A server is full when it uses one processor for 60 % of the time. Several servers share all messages:
  a group is on one of them, and so is a process-specific channel and a queue.
- They do not share what each process costs each server while it only waits.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_FULL = 0.6
_MOST_SHARDS = 1000
_MOST_MACHINES = 100_000
_SERVERS = (1, 10, 100)
"""For which it is told how many machines they serve."""
_WAITING = {"channels_redis core": 0.15, "channels_redis pubsub": 0.0, "queued": 1.0, "published": 1.0}
"""A process that only waits costs each server this part of a direct message each second: pops or pings that end after
`block_time`, alive keys. No question asks this; it was measured apart, with twelve processes. By machine, it is the
machine that waits, and not each process: with 50 processes on 16 servers, one command a second for each server."""


@dataclass(frozen=True)
class Site:
    """What happens on a site, per second where it happens."""

    name: str
    machines: int
    processes: int
    """On each machine."""
    consumers: int
    """In each process."""
    members: int
    """Of each group; each consumer is in one group."""
    group_rate: float
    """Messages to each group."""
    direct_rate: float
    """Messages to each consumer on its own channel."""
    jobs: float
    """Messages on normal channels, from each process."""
    jobs_at_home: float
    """Which share of them is read on the machine that sent it."""

    @property
    def all_processes(self) -> int:
        return self.machines * self.processes

    @property
    def all_consumers(self) -> int:
        return self.all_processes * self.consumers

    @property
    def groups(self) -> float:
        return self.all_consumers / self.members

    @property
    def homes(self) -> float:
        """Processes that have a member of a group."""
        return self._with_members(self.all_processes)

    @property
    def machines_reached(self) -> float:
        """Machines that have a member of a group, but for the sender's."""
        return self._with_members(self.machines) * (1 - 1 / self.machines)

    def _with_members(self, addressees: int) -> float:
        return addressees * (1 - (1 - 1 / addressees) ** self.members)


SITES = (
    Site("one machine", 1, 8, 250, members=50, group_rate=0.5, direct_rate=0.1, jobs=20, jobs_at_home=1),
    Site("ten machines, chat", 10, 8, 500, members=50, group_rate=0.2, direct_rate=0.05, jobs=5, jobs_at_home=0.9),
    Site("ten machines, job queue", 10, 8, 50, members=10, group_rate=0.1, direct_rate=0.1, jobs=200, jobs_at_home=0.9),
    Site(
        "ten machines, broadcast", 10, 8, 500, members=10_000, group_rate=1, direct_rate=0.01, jobs=1, jobs_at_home=0.9
    ),
    Site("a hundred machines", 100, 8, 500, members=100, group_rate=0.2, direct_rate=0.05, jobs=20, jobs_at_home=0.9),
)


@dataclass(frozen=True)
class Costs:
    """Of one layer, to the server. Times in seconds."""

    script: float
    home: float
    """Of each process that has members; by machine, of each machine."""
    member: float
    direct: float
    job: float
    is_local: bool
    """Do jobs that stay on their machine cost nothing?"""
    waiting: float
    """Of each process, or by machine of each machine, to each server, per second."""
    connections: float
    """Of each process."""
    member_bytes: float
    by_machine: bool = False

    @classmethod
    def measured(cls, answers: dict[str, Any], contestant: str, is_local: bool) -> Costs:
        """From the JSON of a benchmark. Raises KeyError for a question that was not asked."""

        def figure(question: str, key: str) -> float:
            value = answers[question]["contestants"][contestant]["medians"][key]
            return math.nan if value is None else float(value)

        def fan_out(size: str) -> float:
            return figure(f"fan_out_{size}", "server_cpu_us") / 1e6

        member = max(0.0, (fan_out("1000") - fan_out("10")) / 990)
        home = max(0.0, (fan_out("8_in_8") - fan_out("2") - 6 * member) / 6)
        direct = figure("round_trip_specific", "server_cpu_us") / 1e6
        return cls(
            script=max(0.0, fan_out("2") - 2 * home - 2 * member),
            home=home,
            member=member,
            direct=direct,
            job=figure("round_trip_normal", "server_cpu_us") / 1e6,
            is_local=is_local,
            waiting=_WAITING[contestant] * direct,
            connections=figure("memory", "connections"),
            member_bytes=max(0.0, figure("memory", "member")),
        )

    @classmethod
    def measured_by_machine(cls, answers: dict[str, Any], by_name: Costs) -> Costs:
        """What differs from `by_name`."""
        figures = answers["machines"]["contestants"]["hybrid, by machine"]["medians"]
        here, there = figures["here_2_us"] / 1e6, figures["there_2_us"] / 1e6
        return replace(by_name, script=here, home=max(0.0, there - here), member=0.0, member_bytes=0.0, by_machine=True)

    def load(self, site: Site, shards: int) -> float:
        """How busy each of so many servers is; 1 is one processor."""
        groups = site.groups * site.group_rate
        jobs = site.all_processes * site.jobs * (1 - site.jobs_at_home if self.is_local else 1)
        homes = site.machines_reached if self.by_machine else site.homes
        shared = groups * (self.script + homes * self.home + site.members * self.member)
        direct = site.all_consumers * site.direct_rate * (1 - 1 / site.machines if self.by_machine else 1)
        shared += direct * self.direct + jobs * self.job
        return shared / shards + (site.machines if self.by_machine else site.all_processes) * self.waiting

    def reach(self, site: Site, shards: int) -> int:
        """The most machines, each like those of `site`, for which so many servers are enough."""
        least, most = 0, _MOST_MACHINES
        while least < most:
            middle = (least + most + 1) // 2
            if self.load(replace(site, machines=middle), shards) <= _FULL:
                least = middle
            else:
                most = middle - 1
        return least

    def shards(self, site: Site) -> int | None:
        """How many servers it takes; None if no number of them is enough."""
        return next((shards for shards in range(1, _MOST_SHARDS) if self.load(site, shards) <= _FULL), None)


LAYERS = {
    "channels_redis core": ("channels_redis core", False),
    "channels_redis pubsub": ("channels_redis pubsub", False),
    "RedisChannelLayer": ("queued", False),
    "RedisPubSubChannelLayer": ("published", False),
    "hybrid, queues": ("queued", True),
    "hybrid, pub/sub": ("published", True),
}
_BY_MACHINE = "hybrid, by machine"


def table(site: Site, costs: dict[str, Costs]) -> str:
    """What a site asks of the server, by layer."""
    lines = [
        f"{site.name}: {site.machines} x {site.processes} processes, {site.all_consumers:,} consumers",
        f"  groups of {site.members:,}; each second {site.groups * site.group_rate:,.0f} group sends, "
        f"{site.all_consumers * site.direct_rate:,.0f} direct messages, {site.all_processes * site.jobs:,.0f} jobs, "
        f"{site.jobs_at_home:.0%} of them read at home",
        f"  {'':24}{'load of one':>12}{'servers':>9}{'connections':>13}{'MiB of members':>16}",
    ]
    for name, cost in costs.items():
        shards = cost.shards(site)
        lines.append(
            f"  {name:24}{cost.load(site, 1):>11.0%} {shards if shards else 'too many':>9}"
            f"{cost.connections * site.all_processes * (shards or 1):>13,.0f}"
            f"{cost.member_bytes * site.all_consumers / 2**20:>16,.0f}"
        )
    return "\n".join(lines)


def reaches(site: Site, costs: dict[str, Costs]) -> str:
    """With how many machines so many servers end."""
    lines = [f"machines like those of {site.name!r} that so many servers are enough for"]
    lines.append(f"  {'':24}" + "".join(f"{servers:>9}" for servers in _SERVERS))
    for name, cost in costs.items():
        most = (cost.reach(site, servers) for servers in _SERVERS)
        lines.append(f"  {name:24}" + "".join(f"{'any' if m >= _MOST_MACHINES else m:>9}" for m in most))
    return "\n".join(lines)


def report(everything: dict[str, Any]) -> str:
    """All tables, from what a benchmark wrote."""
    costs = {
        name: Costs.measured(everything["questions"], contestant, is_local)
        for name, (contestant, is_local) in LAYERS.items()
    }
    lines = [
        "Microseconds of a server: a group send's script, each process, each member; a direct message; a job;",
        "and each second of a process that waits",
    ]
    if "machines" in everything["questions"]:
        costs[_BY_MACHINE] = Costs.measured_by_machine(everything["questions"], costs["hybrid, queues"])
        lines[-1] += ". By machine: each machine in place of each process"
    for name, cost in costs.items():
        figures = (cost.script, cost.home, cost.member, cost.direct, cost.job, cost.waiting)
        lines.append(f"  {name:24}" + "".join(f"{figure * 1e6:>9.1f}" for figure in figures))
    tables = [table(site, costs) for site in SITES] + [reaches(site, costs) for site in SITES[1:3]]
    return "\n\n".join(["\n".join(lines), *tables])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="what `python -m benchmarks --json` wrote")
    print(report(json.loads(parser.parse_args().results.read_text())))


if __name__ == "__main__":
    main()
