"""Runs chaos for as long as asked. The exit code is 1 if a promise was broken."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.chaos.rounds import Chaos
from tests.chaos.zygote import die_with_parent
from tests.support import django_settings

ROUND = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--interval", type=float, default=10, help="milliseconds between two kills, on average")
    options = parser.parse_args()
    die_with_parent()
    django_settings.configure()
    print(f"seed {options.seed}", flush=True)
    chaos = Chaos(options.seed, f"chaos-{secrets.token_hex(4)}", options.interval / 1000)
    until = time.monotonic() + options.seconds
    found: list[str] = []
    number = 0
    try:
        while not found and (left := until - time.monotonic()) > 1:
            number += 1
            found = chaos.round(min(ROUND, left))
            print(f"round {number}: {chaos.report.kills.total()} kills so far", flush=True)
    finally:
        chaos.close()
    print(*chaos.report.lines(), sep="\n")
    for text in found:
        print(f"VIOLATION (seed {options.seed}, round {number}): {text}")
    print(f"{len(found)} violations" if found else "no violation", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
