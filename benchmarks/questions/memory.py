"""How much memory does a site take: per waiting consumer, per group member, per unread message?"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import msgpack
import psutil

from benchmarks.arena import Meeting, Party, Role
from benchmarks.contestants import SHARED_LAYERS, Contestant
from benchmarks.message import message
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample

_TIMES = 4
"""So many times `scale.many` of each: a segment grows by 256 KiB."""
_SETTLING = 0.3
_WARM, _WAITING, _MEMBERS, _MESSAGES = range(4)
"""Meetings of `settle_in`."""


@dataclass(frozen=True)
class _Taken:
    """Bytes of all processes together, at one meeting."""

    shared: int
    """Of /dev/shm, in which a segment lies."""
    server: int
    connections: int
    """Not bytes, but how many the server has."""


class Memory:
    """One process that takes in consumers, then lets them join a group, then sends what nobody reads."""

    key = "memory"
    columns = (
        Column("message", "B/message elsewhere, beyond its own"),
        Column("member", "B/member elsewhere"),
        Column("member_process", "in the process"),
        Column("waiting", "B/waiting consumer elsewhere"),
        Column("waiting_process", "in the process"),
        Column("process_mib", "MiB/process", ",.1f"),
        Column("connections", "connections/process"),
    )
    references = ()
    contestants = SHARED_LAYERS
    text = (
        "How much memory does a site take? For each unread message, beyond its own bytes as msgpack, each group member "
        "and each waiting consumer on a channel of its own: bytes in the process itself, with the consumer's task, and "
        "elsewhere: in /dev/shm and in the server. Whatever else writes to /dev/shm meanwhile counts too."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        number = _TIMES * means.scale.many
        taken: list[_Taken] = []
        before_all = means.observer.connections()

        def at_meeting(meeting: Meeting) -> None:
            status = os.statvfs("/dev/shm")  # the mount itself
            shared = (status.f_blocks - status.f_bfree) * status.f_frsize
            server = means.observer.memory() if contestant.remote else 0
            taken.append(_Taken(shared, server, means.observer.connections() - before_all))

        [own] = means.arena.run(contestant, [Role(settle_in, number=number)], at_meeting=at_meeting, timeout=300)

        def elsewhere(step: int) -> float:
            before, after = taken[step - 1], taken[step]
            return (after.shared - before.shared + after.server - before.server) / number

        def in_process(step: int) -> float:
            return (own[step] - own[step - 1]) / number

        return Sample(
            {
                "message": elsewhere(_MESSAGES) - len(msgpack.packb(message(0))),
                "member": elsewhere(_MEMBERS),
                "member_process": in_process(_MEMBERS),
                "waiting": elsewhere(_WAITING),
                "waiting_process": in_process(_WAITING),
                "process_mib": own[_WARM] / 2**20,
                "connections": taken[_MESSAGES].connections,
            }
        )


async def settle_in(layer: Any, party: Party, number: int) -> list[int]:
    """What this process alone takes, in bytes, at each meeting."""
    taken: list[int] = []

    async def meet() -> None:
        await asyncio.sleep(_SETTLING)
        taken.append(psutil.Process().memory_full_info().uss)
        await party.meet()

    first = await layer.new_channel()
    await layer.group_add("memory", first)
    waiting = [asyncio.create_task(layer.receive(first))]
    await layer.send("unread", message(0))
    await meet()
    channels = [await layer.new_channel() for _ in range(number)]
    waiting += [asyncio.create_task(layer.receive(channel)) for channel in channels]
    await meet()
    for channel in channels:
        await layer.group_add("memory", channel)
    await meet()
    for sent in range(number):
        await layer.send(f"unread.{sent % 100}", message(sent))
    await meet()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    return taken
