# SPDX-License-Identifier: BSD-3-Clause
"""All that `status` and `doctor` look at, gathered once. What cannot be had is missing, with the reason."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybrid_layer.commands.target import Target
from hybrid_layer.exceptions import HybridLayerError

if TYPE_CHECKING:  # the local half does not exist everywhere
    from hybrid_layer.commands.servers import ServerState
    from hybrid_layer.ipc.inventory import SegmentFile
    from hybrid_layer.ipc.observer import Area, ChannelCounts, ChannelState, ProcessInfo


@dataclass
class Memory:
    """The segment of this machine."""

    machine: str
    project: str
    messages: Area
    groups: Area
    counters: dict[str, int]
    remote_counters: dict[str, int]
    channels: list[ChannelState]
    counts: dict[str, ChannelCounts]
    processes: list[ProcessInfo]
    group_count: int
    member_count: int


@dataclass
class Survey:
    """What was found."""

    prefix: str
    user: int
    memory: Memory | None = None
    """None if the layer has none, or it cannot be looked at: see `why_no_memory`."""
    why_no_memory: str = ""
    is_missing: bool = False
    """There is no segment of this prefix and user."""
    shm: tuple[int, int] | None = None
    """Size and free bytes of /dev/shm."""
    servers: list[ServerState] = field(default_factory=list)
    segments: list[SegmentFile] = field(default_factory=list)
    """All of this machine."""


def survey(target: Target) -> Survey:
    """Look at everything, for little more than the target's timeout."""
    found = Survey(target.prefix, os.geteuid() if hasattr(os, "geteuid") else 0)
    if target.servers is not None:
        from hybrid_layer.commands.servers import look

        found.servers = asyncio.run(look(target.servers, target.prefix, target.timeout))
    if target.memory is not None:
        from hybrid_layer.ipc.inventory import segments

        found.segments = segments()
        found.shm = shm_room()
        try:
            found.memory = memory_of(target)
        except FileNotFoundError as error:  # SegmentNotFound
            found.why_no_memory, found.is_missing = str(error), True
        except HybridLayerError as error:
            found.why_no_memory = str(error)
    return found


def memory_of(target: Target) -> Memory:
    """What the segment holds now. Raises what an observer raises."""
    with target.observer() as observer:
        messages, groups = observer.areas()
        sizes = observer.groups()
        return Memory(
            observer.machine,
            observer.project,
            messages,
            groups,
            observer.counters(),
            observer.remote_counters(),
            list(observer.channels()),
            observer.channel_counts(),
            observer.processes(),
            len(sizes),
            sum(sizes.values()),
        )


def shm_room() -> tuple[int, int] | None:
    """Size and free bytes of /dev/shm, if shared memory is there and the system says."""
    from hybrid_layer.ipc.objects import ROOT

    if str(ROOT) != "/dev/shm":
        return None
    try:
        status = os.statvfs(ROOT)
    except OSError:
        return None
    return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
