"""Runs chaos across machines for as long as asked. The exit code is 1 if a promise was broken."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.chaos.zygote import die_with_parent
from tests.machines.chaos.judge import Outages
from tests.machines.chaos.rounds import Run
from tests.support import django_settings
from tests.support.machines import why_not

ROUND = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.machines.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--remote", choices=("queue", "pubsub"), default="queue")
    parser.add_argument("--locality", choices=("name", "machine"), default="name")
    parser.add_argument("--interval", type=float, default=200, help="milliseconds between two faults, on average")
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(f"no machines can be made here: {reason}", file=sys.stderr)
        return 2
    die_with_parent()
    django_settings.configure()
    print(f"seed {options.seed}", flush=True)
    until = time.monotonic() + options.seconds
    number = 0
    found: list[str] = []
    outages: Outages = []
    while not found and (left := until - time.monotonic()) > 1:
        seed, prefix = options.seed + number, f"chaos-{secrets.token_hex(4)}"
        with Run(seed, prefix, options.servers, options.remote, options.locality, options.interval / 1000) as run:
            report = run.run(min(ROUND, left))
            outages = run.outages
        number += 1
        found = report.found
        print(f"round {number}")
        print(*(f"  {name}: {count}" for name, count in sorted(report.figures.items())), sep="\n", flush=True)
    for text in found:
        print(f"VIOLATION (seed {options.seed}, round {number}): {text}")
    if found:
        print(*outages, sep="\n")
    print(f"{len(found)} violations" if found else "no violation", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
