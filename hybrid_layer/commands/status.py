# SPDX-License-Identifier: BSD-3-Clause
"""``status``: one screen, whose last line says whether a person has to do something."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from hybrid_layer.commands.findings import REASONS, findings, problems
from hybrid_layer.commands.lists import channel_table, process_table
from hybrid_layer.commands.output import Output, cut, duration, plural, size, table
from hybrid_layer.commands.survey import Memory, Survey, survey
from hybrid_layer.commands.target import CannotLook, Target

_MOST = 5
"""Processes, and channels, that are shown: those with the most unread messages."""


def run(target: Target, arguments: Namespace, output: Output) -> int:
    """1: there are problems."""
    found = survey(target)
    if found.is_missing and not found.servers:
        raise CannotLook(found.why_no_memory)
    number = problems(findings(found))
    output.show(_data(found, number), _lines(found, number, output))
    return 1 if number else 0


def _data(found: Survey, number: int) -> dict[str, Any]:
    memory = None
    if found.memory is not None:
        memory = vars(found.memory) | {
            "messages": found.memory.messages._asdict(),
            "groups": found.memory.groups._asdict(),
            "channels": [each._asdict() for each in found.memory.channels],
            "counts": {name: each._asdict() for name, each in found.memory.counts.items()},
        }
    servers = [{**asdict(each), "up": each.is_up} for each in found.servers]
    for each in servers:
        del each["info"]
    return {
        "prefix": found.prefix,
        "user": found.user,
        "memory": memory,
        "why_no_memory": found.why_no_memory,
        "shm": None if found.shm is None else {"size": found.shm[0], "free": found.shm[1]},
        "servers": servers,
        "problems": number,
    }


def _lines(found: Survey, number: int, output: Output) -> Iterator[str]:
    memory = found.memory
    yield cut(f"prefix {found.prefix}, user {found.user}{f', machine {memory.machine}' if memory else ''}")
    if memory is not None and memory.project:
        yield cut(memory.project)
    if memory is not None:
        yield from _memory(memory, found.shm)
    elif found.why_no_memory:
        yield from ("", found.why_no_memory)
    if found.servers:
        yield ""
        yield from _servers(found)
    if memory is not None:
        yield ""
        yield from _counters(memory, bool(found.servers))
        yield from _busiest(memory)
    yield ""
    text = f"{plural(number, 'problem')}: see doctor" if number else "0 problems; doctor says more"
    yield output.coloured(text, "red" if number else "green")


def _memory(memory: Memory, shm: tuple[int, int] | None) -> Iterator[str]:
    areas = (("messages", memory.messages), ("groups", memory.groups))
    rows = [(size(area.used), size(area.reserved), size(area.limit), name) for name, area in areas]
    if shm is not None:
        rows.append((size(shm[0] - shm[1]), "", size(shm[0]), "/dev/shm"))
    yield ""
    yield from table(("unread", "taken", "limit", "shared memory"), rows)


def _servers(found: Survey) -> list[str]:
    rows = []
    for each in found.servers:
        keys = f"{sum(each.keys.values()):,}{'' if each.all_keys else '+'}"
        if each.is_up:
            rows.append(("up", duration(each.round_trip or 0), each.version or "?", keys, each.label))
        else:
            rows.append(("DOWN", "-", "-", "-", f"{each.label}: {each.error}"))
    return table(("state", "round trip", "version", "keys", "server"), rows)


def _counters(memory: Memory, has_servers: bool) -> list[str]:
    sides = [("shared memory", memory.counters)]
    if has_servers:
        sides.append(("servers, by this machine", memory.remote_counters))
    rows = []
    for side, counters in sides:
        reasons = ", ".join(f"{counters[key]:,} {key}" for key in REASONS if counters.get(key))
        dropped = sum(counters.get(key, 0) for key in REASONS)
        sent, received = counters.get("sent", 0), counters.get("received", 0)
        rows.append((f"{sent:,}", f"{received:,}", f"{dropped:,}", f"{side}{f': {reasons}' if reasons else ''}"))
    return table(("sent", "received", "dropped", "by side"), rows)


def _busiest(memory: Memory) -> Iterator[str]:
    processes = sorted(memory.processes, key=lambda each: (-each.unread, each.slot))
    channels = [each for each in memory.channels if "!" not in each.name]
    channels.sort(key=lambda each: (-each.pending, -each.oldest_age, each.name))
    yield ""
    yield from process_table(processes[:_MOST]) if processes else ["no process"]
    if len(processes) > _MOST:
        yield f"{plural(len(processes) - _MOST, 'process')} more"
    yield ""
    yield from channel_table(channels[:_MOST]) if channels else ["no normal channel"]
    if len(channels) > _MOST:
        yield f"{plural(len(channels) - _MOST, 'channel')} more"
    yield f"{plural(memory.group_count, 'group')}, {plural(memory.member_count, 'member')}"
