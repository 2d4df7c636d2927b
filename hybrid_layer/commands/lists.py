# SPDX-License-Identifier: BSD-3-Clause
"""``channels``, ``groups``, ``processes`` and ``members``."""

from __future__ import annotations

import asyncio
import fnmatch
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hybrid_layer.base import BaseLayer
from hybrid_layer.commands.output import Output, duration, plural, printable, table, wrapped
from hybrid_layer.commands.target import Target, closing
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.names import check_group

if TYPE_CHECKING:
    from hybrid_layer.ipc.observer import ChannelState, ProcessInfo


def channels(target: Target, arguments: Namespace, output: Output) -> int:
    """Always 0."""
    with target.observer() as observer:
        found = list(observer.channels())
    wanted = [each for each in found if _fits(each.name, arguments.pattern, "!" in arguments.pattern)]
    keys = {
        "unread": lambda each: (-each.pending, -each.oldest_age, each.name),
        "age": lambda each: (-each.oldest_age, each.name),
        "name": lambda each: each.name,
    }
    wanted.sort(key=keys[arguments.sort])
    shown = wanted[: arguments.limit]
    lines = _lines(channel_table(shown), "channel", len(wanted), len(shown))
    output.show({"total": len(wanted), "channels": [each._asdict() for each in shown]}, lines)
    return 0


def _fits(name: str, pattern: str, is_inbox: bool) -> bool:
    return ("!" in name) == is_inbox and (not pattern or fnmatch.fnmatchcase(name, pattern))


def channel_table(found: Sequence[ChannelState]) -> list[str]:
    """The lines of a table of channels, with its heading."""
    rows = [
        (
            f"{each.pending:,}",
            f"{each.capacity:,}" if each.capacity is not None else "-",
            duration(each.oldest_age) if each.pending else "-",
            f"{each.waiting:,}" if each.waiting or each.was_read else "never read",
            each.name,
        )
        for each in found
    ]
    return table(("unread", "capacity", "oldest", "waiting", "channel"), rows)


def processes(target: Target, arguments: Namespace, output: Output) -> int:
    """Always 0."""
    with target.observer() as observer:
        found = observer.processes()
    wanted = [each for each in found if not arguments.pattern or fnmatch.fnmatch(each.command, arguments.pattern)]
    keys = {
        "unread": lambda each: (-each.unread, -each.oldest_age, each.slot),
        "age": lambda each: (-each.oldest_age, each.slot),
        "name": lambda each: (each.command, each.slot),
    }
    wanted.sort(key=keys[arguments.sort])
    shown = wanted[: arguments.limit]
    lines = _lines(process_table(shown), "process", len(wanted), len(shown))
    output.show({"total": len(wanted), "processes": shown}, lines)
    return 0


def process_table(found: Sequence[ProcessInfo]) -> list[str]:
    """The lines of a table of processes, with its heading."""
    rows = [
        (
            str(each.pid) if each.pid is not None else "-",
            f"{each.unread:,}",
            duration(each.oldest_age) if each.unread else "-",
            f"{each.waiting:,}",
            f"{each.members:,}",
            _short(each.command) or ("in another container" if each.is_alive else "dead"),
        )
        for each in found
    ]
    return table(("pid", "unread", "oldest", "waiting", "members", "command"), rows)


def _short(command: str) -> str:
    """A command line without the folder of its program, which would take half of the screen."""
    program, blank, rest = command.partition(" ")
    return f"{program.rpartition('/')[2]}{blank}{rest}"


def groups(target: Target, arguments: Namespace, output: Output) -> int:
    """Always 0."""
    with target.observer() as observer:
        found = observer.groups()
    wanted = [(name, count) for name, count in found.items() if _fits(name, arguments.pattern, False)]
    wanted.sort(key=(lambda each: (-each[1], each[0])) if arguments.sort == "members" else lambda each: each[0])
    shown = wanted[: arguments.limit]
    rows = [(f"{count:,}", name) for name, count in shown]
    lines = _lines(table(("members", "group, on this machine"), rows), "group", len(wanted), len(shown))
    output.show({"total": len(wanted), "groups": dict(shown)}, lines)
    return 0


def members(target: Target, arguments: Namespace, output: Output) -> int:
    """0; 1: some processes or machines did not say in time which of their channels are members."""
    check_group(arguments.group)
    layer = target.layer_on_servers()
    if layer is not None:
        return _members_everywhere(layer, target.timeout, arguments, output)
    with target.observer() as observer:
        found = sorted(observer.members(arguments.group))
    data: dict[str, Any] = {"group": arguments.group, "count": len(found), "machines": "this"}
    if arguments.count:
        output.show(data, [f"{len(found)}"])
        return 0
    rows = [(duration(each.left), each.channel) for each in found]
    lines = table(("expires in", "channel, on this machine"), rows) if rows else ["No member on this machine."]
    output.show({**data, "members": [each._asdict() for each in found]}, lines)
    return 0


def _members_everywhere(layer: BaseLayer, timeout: float, arguments: Namespace, output: Output) -> int:
    error = ""
    try:  # what it asks has a time limit of its own
        found = asyncio.run(closing(layer, layer.group_channels(arguments.group), 2 * timeout))
    except RemoteUnavailable as failure:
        if not failure.partial:
            raise
        found, error = failure.partial, str(failure)
    data: dict[str, Any] = {"group": arguments.group, "count": len(found), "machines": "all", "error": error or None}
    lines = [f"{len(found)}"] if arguments.count else [printable(name) for name in found] or ["No member."]
    if not arguments.count:
        data["members"] = [{"channel": channel} for channel in found]
    output.show(data, [*lines, *wrapped(error)] if error else lines)
    return 1 if error else 0


def _lines(lines: list[str], noun: str, total: int, shown: int) -> list[str]:
    if not total:
        return [f"No {noun}."]
    return lines if shown == total else [*lines, f"{plural(total - shown, noun)} more: see --limit."]
