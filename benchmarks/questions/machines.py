"""What does a machine of several processes cost the servers?"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.arena import Meeting, Party, Role, RunFailed
from benchmarks.contestants import Contestant
from benchmarks.questions.base import Means
from benchmarks.questions.scale_out import Crowd
from benchmarks.results import Column, Sample

BY_NAME, BY_MACHINE = "hybrid, hosts", "hybrid, by machine"
_CONTESTANTS = (BY_NAME, BY_MACHINE, "channels_redis core", "channels_redis pubsub")
_REFERENCES = (BY_NAME, "channels_redis pubsub")
_GROUP = "machines"
_HELD = "mount -t tmpfs tmpfs /dev/shm && echo . && exec sleep infinity"


class Machines:
    """One sender, and members on its own machine or on another one: a mount namespace with a /dev/shm of its own."""

    key = "machines"
    text = (
        "What does a group_send cost the server, by where the members are? Processor time for one message, one message "
        "at a time, from one process to members in others of its own machine (here), or of another one (there)."
    )
    columns = (
        Column("here_us", "40 in 8 here, us"),
        Column("there_us", "40 in 8 there"),
        Column("here_2_us", "32 in 2 here"),
        Column("here_16_us", "32 in 16 here"),
        Column("there_2_us", "32 in 2 there"),
        Column("there_16_us", "32 in 16 there"),
        Column("there_growth", "16 / 2 there", ".2f"),
    )
    references = _REFERENCES
    contestants = _CONTESTANTS

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        figures: dict[str, float] = {}
        twice = 0
        for where in ("here", "there"):
            for members, homes in ((40, 8), (32, 2), (32, 16)):
                crowd = Crowd(senders=1, homes=homes, groups=[[_GROUP]] * (members // homes))
                with another_machine() if where == "there" else contextlib.nullcontext() as machine:
                    cost = replace(crowd, machine=machine).measure(
                        means, contestant, means.backends.hosts(1), means.scale.messages
                    )
                name = f"{where}_us" if homes == 8 else f"{where}_{homes}_us"
                figures[name] = sum(cost.seconds) * 1e6
                twice += cost.twice
        figures["there_growth"] = figures["there_16_us"] / figures["there_2_us"]
        return Sample(figures, twice=twice)


class Storm:
    """Consumers that were there before come back, as after a restart of a proxy."""

    _GROUPS = 50
    _HOMES = 2

    key = "machines_storm"
    columns = (
        Column("by_clients", "commands for each consumer", ".4f"),
        Column("all", "in all"),
    )
    references = ()
    contestants = _CONTESTANTS
    text = (
        f"What do consumers cost the server that come back at once? In {_HOMES} processes, each to one of {_GROUPS} "
        "groups, which it has just left: commands for new_channel and group_add, counted by MONITOR."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        commands = means.observer.count_commands()
        consumers = means.scale.many // self._HOMES * self._HOMES

        def at_meeting(meeting: Meeting) -> None:
            if meeting.number == 0:
                commands.start()
            elif meeting.number == 1:
                commands.stop()

        role = Role(come_back, consumers=consumers // self._HOMES, groups=self._GROUPS)
        means.arena.run(contestant, [role] * self._HOMES, at_meeting=at_meeting, timeout=300)
        return Sample({"by_clients": commands.by_clients / consumers, "all": float(commands.by_clients)})


async def come_back(layer: Any, party: Party, consumers: int, groups: int) -> None:
    """Consumers join, leave, and are counted when they join again."""

    async def join(number: int) -> tuple[str, str]:
        channel, group = await layer.new_channel(), f"storm.{number % groups}"
        await layer.group_add(group, channel)
        return group, channel

    async def in_batches(call: Any, items: Any) -> list[Any]:
        done: list[Any] = []
        for start in range(0, len(items), 100):
            done += await asyncio.gather(*map(call, items[start : start + 100]))
        return done

    joined = await in_batches(join, range(consumers))
    await in_batches(lambda membership: layer.group_discard(*membership), joined)
    await party.meet()
    await in_batches(join, range(consumers))
    await party.meet()


@contextlib.contextmanager
def another_machine() -> Iterator[int]:
    """The process that holds a machine, until the block ends. Raises `RunFailed` where none can be made."""
    command = ["unshare", "--mount", "sh", "-c", _HELD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdout is not None
        try:
            if not holder.stdout.read(1):
                raise RunFailed("another machine takes root, and Linux: it is a mount namespace")
            yield holder.pid
        finally:
            holder.kill()
