"""Every source file of the package names its licence in its first line. `spdx.py` adds the line, `--check` asks."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "hybrid_layer"
LICENCE = "SPDX-License-Identifier: BSD-3-Clause"
LINES = {
    ".c": f"/* {LICENCE} */\n",
    ".h": f"/* {LICENCE} */\n",
    ".lua": f"-- {LICENCE}\n",
    ".py": f"# {LICENCE}\n",
    ".pyi": f"# {LICENCE}\n",
}


def lacking() -> list[Path]:
    files = (path for path in sorted(PACKAGE.rglob("*")) if path.suffix in LINES)
    return [path for path in files if not path.read_text("utf-8").startswith(LINES[path.suffix])]


def main(arguments: list[str]) -> None:
    found = lacking()
    if "--check" in arguments:
        if found:
            sys.exit("\n".join(["No licence in the first line (.ci/spdx.py adds it):", *map(str, found)]))
        return
    for path in found:
        path.write_text(LINES[path.suffix] + path.read_text("utf-8"), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
