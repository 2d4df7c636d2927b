"""What the layers of this package are meant to reach, as ratios within one run."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results import Series

Answers = dict[str, dict[str, Series]]


@dataclass(frozen=True)
class Target:
    """One contestant's figure, or its ratio to another's, against a limit."""

    question: str
    contestant: str
    figure: str
    limit: float
    reference: str = ""
    at_least: bool = False
    """The limit is a lower one."""
    is_difference: bool = False
    """The limit is how much more than the reference it may be, not how many times."""

    def reached(self, answers: Answers) -> float | None:
        results = answers.get(self.question, {})
        series = results.get(self.contestant)
        if series is None:
            return None
        if not self.reference:
            return series.median(self.figure)
        reference = results.get(self.reference)
        if reference is None:
            return None
        return series.difference(reference, self.figure) if self.is_difference else series.ratio(reference, self.figure)


_LOCAL = ("IPC", "hybrid, hosts")
_BOTH_WAYS = ("IPC", "hybrid, no hosts", "hybrid, hosts")
"""Where the way to the local half may be felt."""
_SERVERS = ("queued", "published")
_BY_NAME, _BY_MACHINE = "hybrid, hosts", "hybrid, by machine"

TARGETS = (
    # Where the kernel puts them, it may put a layer's processes on one processor and the pipe's on two.
    *(Target("round_trip_normal", name, "p50_us", 1.3, "bare pipe") for name in _BOTH_WAYS),
    *(Target("round_trip_together", name, "p50_us", 15, "bare pipe", is_difference=True) for name in _BOTH_WAYS),
    *(Target("round_trip_apart", name, "p50_us", 1.3, "bare pipe") for name in _BOTH_WAYS),
    *(
        Target("one_way_1", name, "per_second", limit, reference, at_least=True)
        for name in _LOCAL
        for limit, reference in ((0.55, "bare pipe"), (30, "channels_redis pubsub"), (150, "channels_redis core"))
    ),
    *(Target("fan_out_1000", name, "p50_ms", 0.5, "channels_redis pubsub") for name in _LOCAL),
    *(Target("sync_send_1", name, "per_second", 0.9, "InMemory", at_least=True) for name in _BOTH_WAYS),
    *(Target("sync_send_8", name, "per_second", 0.9, "empty coroutine", at_least=True) for name in _BOTH_WAYS),
    *(Target(question, "queued", "connections", 0) for question in ("sync_send_1", "sync_send_8")),
    *(Target(question, name, "growth", 1.1) for question in ("backlog", "idle") for name in (*_LOCAL, "queued")),
    *(Target("neighbour", name, "growth", 2) for name in _LOCAL),
    *(Target("memory", name, "message", 100) for name in _LOCAL),
    Target("memory", "IPC", "member", 64),  # in the segment; in the hybrid they are the servers'
    *(Target("waiting", "IPC", figure, 0.1) for figure in ("web_percent", "worker_percent")),
    *(Target("start_up", name, "first_ms", 5) for name in _BOTH_WAYS[:2]),
    *(Target("start_up", name, "import_ratio", 1.3) for name in _BOTH_WAYS),
    *(Target(question, "queued", "by_clients", 2) for question in ("commands_normal", "commands_specific")),
    *(
        Target(question, "queued", figure, limit, reference)
        for question in ("round_trip_normal", "round_trip_specific")
        for figure, limit, reference in (
            ("p50_us", 0.45, "channels_redis core"),
            ("p50_us", 1.3, "bare EVALSHA/BLPOP"),
            ("server_cpu_us", 0.4, "channels_redis core"),
        )
    ),
    Target("senders_normal", "queued", "server_cpu_us", 0.3, "channels_redis core"),
    Target("senders_specific", "queued", "server_cpu_us", 0.15, "channels_redis core"),
    *(
        Target(question, name, "per_second", limit, reference, at_least=True)
        for name in _SERVERS
        for question, limit, reference in (
            ("one_way_1", 0.9, "bare EVALSHA/BLPOP"),
            ("senders_normal", 0.85, "channels_redis pubsub"),
        )
    ),
    Target("head", "queued", "growth", 1.2),
    Target("round_trip_specific", "published", "p50_us", 0.85, "channels_redis pubsub"),
    Target("fan_out_10", "published", "p50_ms", 1.0, "channels_redis pubsub"),
    Target("fan_out_1000", "queued", "p50_ms", 0.15, "channels_redis core"),
    Target("fan_out_1000", "published", "p50_ms", 0.7, "channels_redis pubsub"),
    *(
        Target(question, name, figure, limit)
        for question in ("scale_out_10", "scale_out_40_in_8")
        for name in _SERVERS
        for figure, limit in (("three", 1.15), ("six", 1.05), ("cluster", 1.3))
    ),
    *(Target("scale_out_busiest", name, "share", 0.4) for name in _SERVERS),
    Target("machines", _BY_MACHINE, "here_us", 0.15, _BY_NAME),
    Target("machines", _BY_MACHINE, "there_us", 0.3, _BY_NAME),
    Target("machines", _BY_MACHINE, "there_growth", 1.1),
    Target("machines_storm", _BY_MACHINE, "by_clients", 0.01, _BY_NAME),
    Target("round_trip_specific", _BY_MACHINE, "p50_us", 1.15, "IPC"),
    Target("fan_out_1000", _BY_MACHINE, "p50_ms", 1.15, "IPC"),
    Target("commands_specific", _BY_MACHINE, "by_clients", 0.01),
)


def table(answers: Answers) -> str:
    """Each target that this run can judge."""
    lines = ["Targets"]
    for target in TARGETS:
        value = target.reached(answers)
        if value is None:
            continue
        met = value >= target.limit if target.at_least else value <= target.limit
        relation = "more than" if target.is_difference else "x"
        what = f"{relation} {target.reference}" if target.reference else ""
        bound = ">=" if target.at_least else "<="
        lines.append(
            f"  {'met   ' if met else 'MISSED'}  {target.question}, {target.contestant}: "
            f"{target.figure} {value:.2f} {what}".rstrip()
            + f" ({bound} {target.limit:g})"
        )
    return "\n".join(lines) if len(lines) > 1 else "No target can be judged by this run."
