"""A normal channel of a machine as a member of a group: what the remote half does for the hybrid."""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid_layer.configuration import LayerOptions, ServerOptions
from hybrid_layer.exceptions import SegmentBusy
from hybrid_layer.policy import Policy
from hybrid_layer.remote.redis.connect import remote_transport
from hybrid_layer.remote.redis.options import remote_options
from hybrid_layer.transport import RemoteHalf
from tests.support.probe import probe
from tests.support.servers import Server
from tests.support.waiting import outlive, wait_until


class LocalHalf:
    """A machine that stands for shared memory: it keeps the state that all its processes share."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._has_members = False
        self.delivered: list[tuple[str, bytes]] = []
        self.lives: list[float] = []

    async def id(self) -> str:
        return self._name

    async def deliver(self, channel: str, payload: bytes, life: float) -> None:
        self.delivered.append((channel, payload))
        self.lives.append(life)

    def has_members(self) -> bool:
        return self._has_members

    async def mark_members(self) -> None:
        self._has_members = True

    def meet_flush(self, shard: int, incarnation: int, flushes: int) -> None:
        pass

    def keeps(self, channel: str) -> bool:
        return True


def transport(server: Server, prefix: str, half: LocalHalf | None, **policy: Any) -> RemoteHalf:
    settings = Policy(LayerOptions(prefix=prefix, **policy))
    options = remote_options(ServerOptions(hosts=[server.url]), "queue", lambda message, where: b"")
    return remote_transport(settings, options, half)


async def test_each_machine_gets_a_groups_message_once(server: Server, prefix: str, servers: list[Server]) -> None:
    halves = [LocalHalf("MACHINEONE"), LocalHalf("MACHINETWO")]
    # Two processes of the first machine, one of the second.
    transports = [transport(server, prefix, halves[n]) for n in (0, 0, 1)]
    await transports[0].group_add("g", "jobs")
    await transports[0].group_add("g", "reports")
    await transports[2].group_add("g", "jobs")
    await transports[1].open_inbox("specific.PROCESS!")
    for n in range(20):
        await transports[1].group_send("g", b"%d" % n)
    await wait_until(lambda: len(halves[0].delivered) == 40 and len(halves[1].delivered) == 20, "all have come")
    assert sorted(halves[1].delivered) == sorted(("jobs", b"%d" % n) for n in range(20))
    await transports[0].group_discard("g", "jobs")
    await transports[1].group_send("g", b"last")
    await wait_until(lambda: len(halves[0].delivered) == 41 and len(halves[1].delivered) == 21, "all have come")
    assert halves[0].delivered[-1] == ("reports", b"last")
    assert all(50 < life < 61 for life in halves[0].lives), "what is left of their 60 seconds"
    for each in transports:
        await each.close()


async def test_a_machine_that_is_gone_costs_nothing_after_expiry(server: Server, prefix: str) -> None:
    gone = [transport(server, prefix, LocalHalf("MACHINEGONE"), expiry=1)]
    sender = transport(server, prefix, None, expiry=1)
    await gone[0].group_add("g", "jobs")
    gone.clear()
    await outlive(1.4)
    await sender.group_send("g", b"x")
    statistics = await sender.statistics()
    assert (statistics["sent"], statistics["dead"]) == (0, 1)


async def test_reading_starts_when_another_process_adds_a_member(server: Server, prefix: str) -> None:
    """The machine's mark alone makes a process read, within the interval between its looks."""
    half = LocalHalf("MACHINE")
    reader, sender = transport(server, prefix, half), transport(server, prefix, None)
    await reader.open_inbox("specific.PROCESS!")
    await half.mark_members()
    adder = transport(server, prefix, half)
    await adder.group_add("g", "jobs")
    probe(adder).stop_reading_for_the_machine()
    await wait_until(lambda: not probe(adder).reads_for_the_machine, "who has added reads no more")
    await sender.group_send("g", b"x")
    await wait_until(lambda: half.delivered == [("jobs", b"x")], "all have come")


class BrokenHalf(LocalHalf):
    """A local half that cannot be attached for a while."""

    works = False

    async def id(self) -> str:
        if not self.works:
            raise SegmentBusy("locked")
        return await super().id()

    def has_members(self) -> bool:
        if not self.works:
            raise SegmentBusy("locked")
        return super().has_members()


async def test_a_process_lives_on_while_its_local_half_does_not_work(server: Server, prefix: str) -> None:
    half = BrokenHalf("MACHINE")
    own, sender = transport(server, prefix, half, expiry=1), transport(server, prefix, None)
    await own.open_inbox("specific.PROCESS!")
    await outlive(1.4)  # longer than its alive key lives
    await sender.send("specific.PROCESS!1", b"x")
    assert await asyncio.wait_for(own.receive("specific.PROCESS!1"), 5) == b"x"
    half.works = True
    await own.group_add("g", "jobs")
    await sender.group_send("g", b"y")
    await wait_until(lambda: half.delivered == [("jobs", b"y")], "all have come")
    assert (await sender.statistics())["dead"] == 0
