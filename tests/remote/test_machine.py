"""What the remote half does for a machine, here one in the test's own memory: who reads, and what becomes of it.

`tests/contract/test_locality.py` has what users see of it, with shared memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hybrid_layer.configuration import LayerOptions, ServerOptions
from hybrid_layer.exceptions import SegmentBusy
from hybrid_layer.policy import Policy
from hybrid_layer.remote.redis.connect import remote_transport
from hybrid_layer.remote.redis.options import remote_options
from hybrid_layer.transport import RemoteHalf
from tests.support.memory_machine import MemoryMachine
from tests.support.probe import probe
from tests.support.servers import NewServer, Server
from tests.support.waiting import outlive, wait_until

MODES = pytest.mark.parametrize("mode", ["queue", "pubsub"])


def transport(
    server: Server, prefix: str, machine: MemoryMachine | None, mode: str = "queue", **given: Any
) -> RemoteHalf:
    """The remote half of one process of the machine."""
    notices = {name: given.pop(name) for name in ("on_disconnect", "on_reconnect") if name in given}
    settings = Policy(LayerOptions(prefix=prefix, **given))
    servers = ServerOptions(hosts=[server.url], timeout=2, **notices)
    options = remote_options(servers, mode, lambda message, where: message["type"].encode())
    return remote_transport(settings, options, machine)


@MODES
async def test_each_machine_gets_a_groups_message_once(server: Server, prefix: str, mode: str) -> None:
    machines = [MemoryMachine(), MemoryMachine()]
    # Two processes of the first machine, one of the second; the third process only sends.
    transports = [transport(server, prefix, machines[n], mode) for n in (0, 0, 1)]
    sender = transport(server, prefix, None, mode)
    await transports[0].group_add("g", "jobs")
    await transports[0].group_add("g", "reports")
    await transports[2].group_add("g", "jobs")
    for n in range(20):
        await sender.group_send("g", b"%d" % n)
    await wait_until(lambda: len(machines[0].delivered) >= 40 and len(machines[1].delivered) >= 20, "all have come")
    assert machines[1].delivered == [("jobs", b"%d" % n) for n in range(20)]
    assert machines[0].delivered == [(name, b"%d" % n) for n in range(20) for name in ("jobs", "reports")]
    await transports[1].group_discard("g", "jobs")
    await transports[1].group_send("g", b"last")
    await wait_until(lambda: len(machines[1].delivered) == 21, "the other machine has it, too")
    assert machines[0].delivered[40:] == [("reports", b"last")]
    assert all(50 < life < 61 for life in machines[0].lives[:40]), "what is left of their 60 seconds"
    for each in (*transports, sender):
        await each.close()


async def test_a_machine_that_is_gone_costs_nothing_after_expiry(server: Server, prefix: str) -> None:
    gone = [transport(server, prefix, MemoryMachine(), expiry=1)]
    sender = transport(server, prefix, None, expiry=1)
    await gone[0].group_add("g", "jobs")
    gone.clear()
    await outlive(3.4)  # its alive key lives for three seconds at least
    await sender.group_send("g", b"x")
    statistics = await sender.statistics()
    assert (statistics["sent"], statistics["dead"]) == (0, 1)


async def test_one_process_reads_and_another_takes_over(server: Server, prefix: str) -> None:
    machine = MemoryMachine()
    first, second = transport(server, prefix, machine), transport(server, prefix, machine)
    sender = transport(server, prefix, None)
    await first.group_add("g", "jobs")
    await wait_until(lambda: probe(first).reads_for_the_machine, "the first one reads")
    second.serve_machine()
    await sender.group_send("g", b"1")
    await wait_until(lambda: machine.delivered == [("jobs", b"1")], "it comes")
    assert not probe(second).reads_for_the_machine
    probe(first).stop_reading_for_the_machine()
    await sender.group_send("g", b"2")
    await wait_until(lambda: machine.delivered[1:] == [("jobs", b"2")], "it comes to the second one")
    assert probe(second).reads_for_the_machine
    await sender.close()


async def test_what_has_no_room_waits_on_the_server(server: Server, prefix: str) -> None:
    machine = MemoryMachine()
    own, sender = transport(server, prefix, machine), transport(server, prefix, None)
    await own.group_add("g", "jobs")
    machine.has_room = False
    for n in range(40):
        await sender.group_send("g", b"%d" % n)
    await outlive(0.3)
    assert not machine.delivered
    machine.has_room = True
    await wait_until(lambda: len(machine.delivered) == 40, "all come")
    assert machine.delivered == [("jobs", b"%d" % n) for n in range(40)]


async def test_what_expired_while_there_was_no_room_is_counted_once(server: Server, prefix: str) -> None:
    machine = MemoryMachine()
    own, sender = transport(server, prefix, machine, expiry=0.5), transport(server, prefix, None, expiry=0.5)
    await own.group_add("g", "jobs")
    machine.has_room = False
    for n in range(3):
        await sender.group_send("g", b"%d" % n)
    await outlive(0.8)
    machine.has_room = True
    await wait_until(lambda: machine.counted["expired"] == 3, "all are counted")
    await sender.group_send("g", b"3")
    await wait_until(lambda: machine.delivered == [("jobs", b"3")], "the next one comes")
    assert machine.counted["expired"] == 3


async def test_consumers_are_told_of_outages(new_server: NewServer, prefix: str) -> None:
    """By each process of the machine, whichever has read."""
    server = new_server()
    machine = MemoryMachine()
    notices = {"on_disconnect": "lost", "on_reconnect": "back"}
    own = [transport(server, prefix, machine, **notices) for _ in range(2)]
    for n, each in enumerate(own):
        await each.open_machine()
        each.waits(f"specific.{machine.name}-PROCESS{n}!1")
    await wait_until(lambda: any(probe(each).reads_for_the_machine for each in own), "one of them reads")
    server.kill()
    await wait_until(lambda: len(machine.reported) == 2, "both tell of the outage")
    server.restart()
    await wait_until(lambda: len(machine.reported) == 4, "both tell of its end", 10)
    assert [payload for _, payload in machine.reported] == [b"lost", b"lost", b"back", b"back"]


async def test_a_process_lives_on_while_its_local_half_does_not_work(server: Server, prefix: str) -> None:
    machine = MemoryMachine()
    machine.works = False
    own, sender = transport(server, prefix, machine, expiry=1), transport(server, prefix, None)
    own.serve_machine()
    await own.open_inbox("specific.PROCESS!")
    await outlive(1.4)  # longer than its alive key lives
    await sender.send("specific.PROCESS!1", b"x")
    assert await asyncio.wait_for(own.receive("specific.PROCESS!1"), 5) == b"x"
    with pytest.raises(SegmentBusy):
        await own.group_add("g", "jobs")
    machine.works = True
    await own.group_add("g", "jobs")
    await sender.group_send("g", b"y")
    await wait_until(lambda: machine.delivered == [("jobs", b"y")], "it comes")
    assert (await sender.statistics())["dead"] == 0
