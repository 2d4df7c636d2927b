# SPDX-License-Identifier: BSD-3-Clause
"""``segments`` and ``clean``."""

from __future__ import annotations

import os
from argparse import Namespace

from hybrid_layer.commands.output import Output, size, table
from hybrid_layer.commands.questions import ask
from hybrid_layer.commands.target import Target
from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.inventory import SegmentFile
from hybrid_layer.ipc.inventory import segments as all_segments
from hybrid_layer.ipc.observer import Observer
from hybrid_layer.ipc.sweeping import remove_if_left


def segments(target: Target, arguments: Namespace, output: Output) -> int:
    """Always 0."""
    found = all_segments()
    rows = [
        (
            str(each.user),
            _number(each.processes) if each.processes is not None else _yes(each.is_inhabited),
            "?" if each.size is None else size(each.size),
            each.prefix if each.prefix is not None else f"{each.name} ({_why_unknown(each)})",
        )
        for each in found
    ]
    lines = table(("user", "processes", "memory", "prefix"), rows) if rows else ["No segment on this machine."]
    output.show({"segments": [each._asdict() for each in found]}, lines)
    return 0


def _number(number: int) -> str:
    return f"{number:,}"


def _yes(is_inhabited: bool | None) -> str:
    return {True: "some", False: "0", None: "?"}[is_inhabited]


def _why_unknown(each: SegmentFile) -> str:
    if each.layout != _core.LAYOUT_VERSION:
        return "of another release"
    return "of another user" if each.user != os.geteuid() else "damaged"


def clean(target: Target, arguments: Namespace, output: Output) -> int:
    """0, also if nothing was there to remove."""
    empty, unread = [], {}
    for each in all_segments():
        if each.user == os.geteuid() and each.layout == _core.LAYOUT_VERSION and not each.is_inhabited:
            number = _unread(each.prefix)
            if number:
                unread[each.name] = (each.prefix or each.name, number)
            else:
                empty.append((each.name, each.prefix or each.name))
    if unread and arguments.unread:
        lines = [f"{number:,} unread of prefix {prefix!r}" for prefix, number in unread.values()]
        ask("clean --unread", [*lines, "They are deleted with their segments."], arguments, output)
    removed = [prefix for name, prefix in empty if remove_if_left(name)]
    if arguments.unread:
        removed += [prefix for name, (prefix, _) in unread.items() if remove_if_left(name, even_if_needed=True)]
    kept = dict(unread.values()) if not arguments.unread else {}
    lines = [f"Removed {prefix!r}." for prefix in removed] or ["Nothing to remove."]
    lines += [f"Kept {prefix!r}: {number:,} unread. --unread removes it." for prefix, number in kept.items()]
    output.show({"removed": removed, "kept": kept}, lines)
    return 0


def _unread(prefix: str | None) -> int:
    try:
        with Observer(prefix or "") as observer:
            return sum(channel.pending for channel in observer.channels())
    except HybridLayerError:
        return 0  # damaged, or gone by now: removing it looks again
