# SPDX-License-Identifier: BSD-3-Clause
"""What is wrong, as far as a survey shows it. `docs/operating.rst` describes each finding by its id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hybrid_layer.commands.output import duration, plural, size
from hybrid_layer.commands.survey import Memory, Survey

LEVELS = ("INFO", "WARNING", "ERROR")
_MUCH = 0.8
"""The part of a capacity or a memory from which on it counts as nearly full."""
_OLD = 30.0
"""Seconds after which an unread message is a sign that its reader does not keep up."""
_FAR = 0.1
"""Seconds of a round trip that are long for a server of a channel layer."""
_OLDEST = {"redis": (6, 2), "valkey": (7, 2), "postgresql": (14, 0)}

REASONS = {
    "full": "Readers do not keep up: add workers, or raise capacity or channel_capacity.",
    "expired": "Nobody read them within expiry: see whether their worker runs, or raise expiry.",
    "dead": "Their process had ended. That is usual when clients disconnect or processes restart.",
    "slow": "A consumer reads more slowly than its messages come: raise its capacity, or send less.",
    "memory": "message_memory or /dev/shm was full: raise it, read faster, or lower expiry or capacity.",
    "damaged": "A process was killed while it wrote, or something else wrote into the segment.",
    "undecodable": "Other keys, another serializer, or another program wrote them: give all processes the same.",
    "errors": "Code of this package failed unexpectedly: the log has tracebacks. Report them.",
}
"""For each reason of a drop, by its key in `hybrid_layer.statistics.KEYS`: what to do."""
_GRAVE = ("damaged", "undecodable", "errors")


@dataclass(frozen=True)
class Finding:
    """Something to tell a person."""

    id: str
    level: str
    """One of `LEVELS`."""
    evidence: str
    remedy: str


def findings(found: Survey) -> list[Finding]:
    """The findings of a survey, the gravest first."""
    every = [*_of_servers(found), *_of_files(found)]
    if found.memory is not None:
        every += [*_of_memory(found.memory, found.shm), *_of_channels(found.memory), *_of_processes(found.memory)]
        every += _of_counters("shared memory", found.memory.counters)
        every += _of_counters("servers", found.memory.remote_counters)
    return sorted(every, key=lambda each: -LEVELS.index(each.level))


def problems(every: list[Finding]) -> int:
    """How many of them a person should do something about."""
    return sum(each.level != "INFO" for each in every)


def skipped(found: Survey) -> list[str]:
    """Questions that could not be asked, and why."""
    texts = [f"{each.label}: {what} is not allowed" for each in found.servers for what in each.skipped]
    return texts + [f"{each.label}: keys not all counted in time" for each in found.servers if not each.all_keys]


def _of_servers(found: Survey) -> Iterator[Finding]:
    for each in found.servers:
        if not each.is_up:
            remedy = "Start it, or correct hosts. Messages through shared memory still travel."
            yield Finding("D001", "ERROR", f"The server {each.label} is down: {each.error}", remedy)
            continue
        if each.round_trip is not None and each.round_trip > _FAR:
            evidence = f"A round trip to {each.label} took {duration(each.round_trip)}."
            yield Finding("D002", "WARNING", evidence, "See what keeps it busy, or put it nearer.")
        limit, used = _int(each.info, "maxmemory"), _int(each.info, "used_memory")
        policy = each.info.get("maxmemory_policy", "noeviction")
        if limit and policy != "noeviction":
            evidence = f"{each.label} removes keys when it is full: maxmemory-policy is {policy}."
            yield Finding("D003", "WARNING", evidence, "Set maxmemory-policy to noeviction: a queue must not vanish.")
        if limit and used > _MUCH * limit:
            evidence = f"{each.label} uses {size(used)} of its maxmemory, {size(limit)}."
            yield Finding("D004", "WARNING", evidence, "Raise maxmemory, or find what fills it.")
        kind, _, version = each.version.partition(" ")
        if version and _version(version) < _OLDEST.get(kind, (0, 0)):
            oldest = "{}.{}".format(*_OLDEST[kind])
            yield Finding("D005", "WARNING", f"{each.label} is {each.version}.", f"Use {kind} {oldest} or later.")


def _of_files(found: Survey) -> Iterator[Finding]:
    if found.why_no_memory and not found.is_missing:
        yield Finding("D010", "ERROR", found.why_no_memory, "Continue or kill the process that is named, if any.")
    if not found.segments:
        return
    from hybrid_layer.ipc import _core  # here, since it does not exist everywhere
    from hybrid_layer.ipc.objects import digest

    own = digest(found.prefix)
    others = sorted({each.user for each in found.segments if each.digest == own and each.user != found.user})
    if others:
        evidence = f"User {' and '.join(map(str, others))} has a segment of prefix {found.prefix!r}, too."
        remedy = "Run all processes of the site as one user: those of different users do not meet in shared memory."
        yield Finding("D011", "WARNING", evidence, remedy)
    mine = [each for each in found.segments if each.user == found.user]
    if any(each.digest == own and each.layout != _core.LAYOUT_VERSION and each.is_inhabited for each in mine):
        evidence = f"Processes of another release use prefix {found.prefix!r} on this machine."
        yield Finding("D012", "WARNING", evidence, "Restart them: the two releases do not meet in shared memory.")
    left = [each for each in mine if each.layout == _core.LAYOUT_VERSION and each.is_inhabited is False]
    if left:
        evidence = f"{plural(len(left), 'segment')} without a process, {size(sum(each.size or 0 for each in left))}."
        yield Finding("D013", "INFO", evidence, "`clean` removes those without unread messages.")


def _of_memory(memory: Memory, shm: tuple[int, int] | None) -> Iterator[Finding]:
    for id, option, area in (("D020", "message_memory", memory.messages), ("D021", "group_memory", memory.groups)):
        if area.used > _MUCH * area.limit:
            evidence = f"{option}: {size(area.used)} of {size(area.limit)} is in use."
            yield Finding(id, "WARNING", evidence, f"Raise {option}; see what is unread with `channels`, `processes`.")
    if shm is not None:
        wanted = sum(max(0, area.limit - area.reserved) for area in (memory.messages, memory.groups))
        if shm[1] < wanted:
            evidence = (
                f"/dev/shm has {size(shm[1])} left of {size(shm[0])}, and the segment may still take {size(wanted)}."
            )
            yield Finding("D022", "WARNING", evidence, "Make it larger (--shm-size), or remove what else fills it.")


def _of_channels(memory: Memory) -> Iterator[Finding]:
    for each in sorted(memory.channels, key=lambda each: each.name):
        if "!" in each.name:
            continue
        unread = f"{each.pending:,} unread, the oldest for {duration(each.oldest_age)}"
        is_old = each.pending and each.oldest_age > _OLD
        if is_old and not (each.waiting or each.was_read):
            evidence = f"No process reads {each.name}: {unread}."
            yield Finding(
                "D030", "WARNING", evidence, 'Start its worker; if that is elsewhere, set routes to "remote".'
            )
        elif is_old:
            evidence = f"Readers of {each.name} are behind: {unread}."
            yield Finding("D031", "WARNING", evidence, "Add workers, or see what they are doing.")
        if each.capacity and each.pending >= _MUCH * each.capacity:
            evidence = f"{each.name} has {each.pending:,} unread of at most {each.capacity:,}."
            yield Finding("D032", "WARNING", evidence, "Add workers, or raise channel_capacity: `send` refuses soon.")


def _of_processes(memory: Memory) -> Iterator[Finding]:
    for each in memory.processes:
        who = f"Process {each.pid}" if each.pid else "A process of another container"
        if each.is_alive and each.unread and each.oldest_age > _OLD:
            evidence = f"{who} has {each.unread:,} unread, the oldest for {duration(each.oldest_age)}: {each.command}"
            yield Finding(
                "D040", "WARNING", evidence, "It is busy, stopped, or its consumers hang: look at it, restart it."
            )
    if dead := sum(not each.is_alive for each in memory.processes):
        evidence = f"{plural(dead, 'process')} ended without leaving."
        yield Finding("D041", "INFO", evidence, "Nothing to do: the next message to them cleans up.")


def _of_counters(side: str, counters: Mapping[str, int]) -> Iterator[Finding]:
    for number, reason in enumerate(REASONS):
        if dropped := counters.get(reason, 0):
            level = "WARNING" if reason in _GRAVE else "INFO"
            evidence = f"{dropped:,} {reason} ({side}), since the segment was made."
            yield Finding(f"D05{number}", level, evidence, REASONS[reason])


def _int(info: Mapping[str, str], key: str) -> int:
    text = info.get(key, "0")
    return int(text) if text.isdigit() else 0


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
