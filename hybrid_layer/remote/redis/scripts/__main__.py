# SPDX-License-Identifier: BSD-3-Clause
"""``python -m hybrid_layer.remote.redis.scripts send`` prints a whole script, for programs in other languages."""

from __future__ import annotations

import argparse
import sys

from hybrid_layer.remote.redis import scripts


def main() -> None:
    by_name = {script.name: script for script in scripts.ALL}
    parser = argparse.ArgumentParser(
        prog="python -m hybrid_layer.remote.redis.scripts",
        description="Print a script with its includes, as it is sent to the servers.",
    )
    parser.add_argument("name", choices=sorted(by_name))
    sys.stdout.write(by_name[parser.parse_args().name].source)


if __name__ == "__main__":
    main()
