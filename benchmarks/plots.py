"""``python -m benchmarks.plots RESULTS.json DIRECTORY [QUESTION ...]``: an SVG each, from what ``--json`` wrote."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

_OURS = {"IPC", "hybrid, no hosts", "hybrid, hosts", "queued", "published"}
_COLORS = {"ours": "#1f6f8b", "others": "#b0b7bd", "bare": "#e0c080"}
_SPANS_DECADES = 30
"""The largest figure by the smallest, from which on a linear axis shows nothing of the small ones."""


def plot(key: str, question: dict[str, Any], file: Path) -> None:
    """Bars of the main figure's median, with lowest and highest round; nothing if nobody has one."""
    main = question["main"]
    rows = []
    for name, answer in question["contestants"].items():
        values = [row[main] for row in answer["rounds"] if row.get(main) is not None and row[main] > 0]
        if values:
            rows.append((name, answer["medians"][main], min(values), max(values)))
    if not rows:
        return
    rows.reverse()  # the first on top
    figure, axes = plt.subplots(figsize=(7, 0.34 * len(rows) + 1.1), layout="constrained")
    medians = [row[1] for row in rows]
    spread = [[median - low for _, median, low, _ in rows], [high - median for _, median, _, high in rows]]
    axes.barh(
        [row[0] for row in rows],
        medians,
        xerr=spread,
        color=[_color(row[0]) for row in rows],
        error_kw={"elinewidth": 1, "capsize": 2},
    )
    if max(medians) > _SPANS_DECADES * min(medians):
        axes.set_xscale("log")
    axes.set_xlabel(f"{key}: {question['titles'][main]}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _color(name: str) -> str:
    kind = "ours" if name in _OURS else "bare" if name.startswith(("bare", "empty")) else "others"
    return _COLORS[kind]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("results", type=Path, help="what `python -m benchmarks --json` wrote")
    parser.add_argument("directory", type=Path)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="by default all")
    options = parser.parse_args()
    mpl.use("svg")
    # The same input gives the same files, and text stays text.
    mpl.rcParams.update({"svg.hashsalt": "hybrid_layer", "svg.fonttype": "none"})
    options.directory.mkdir(parents=True, exist_ok=True)
    for key, question in json.loads(options.results.read_text())["questions"].items():
        if not options.questions or key in options.questions:
            plot(key, question, options.directory / f"{key}.svg")


if __name__ == "__main__":
    main()
