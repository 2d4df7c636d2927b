"""What the remote half does for a machine, here one in the test's own memory: who reads, and what becomes of it.

`tests/contract/test_locality.py` has what users see of it, with shared memory.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hybrid_layer.configuration import LayerOptions, ServerOptions
from hybrid_layer.envelope import enclosed, fields_without, opened
from hybrid_layer.exceptions import RemoteUnavailable, SegmentBusy
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


async def test_a_process_without_own_channels_reads_while_there_are_groups(server: Server, prefix: str) -> None:
    """Then its machine is none to the servers, and the connection is given back."""
    machine = MemoryMachine()
    own, sender = transport(server, prefix, machine), transport(server, prefix, None)
    own.serve_machine()
    await own.group_add("g", "jobs")
    await wait_until(lambda: probe(own).reads_for_the_machine, "it reads")
    await sender.flush()
    await wait_until(lambda: not probe(own).reads_for_the_machine, "it reads no more")
    assert machine.leases(1) == [0]
    await own.group_add("g", "jobs")
    await sender.group_send("g", b"x")
    await wait_until(lambda: machine.delivered == [("jobs", b"x")], "it reads again")


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


@pytest.mark.parametrize("note", ["+|g|{channel}|99999999999999|other:5", "-|g|{channel}", "f|other:3", "f|:0"])
async def test_notes_of_data_that_the_server_has_lost(server: Server, prefix: str, note: str) -> None:
    """They stop nothing: what comes behind them is taken in."""
    machine = MemoryMachine()
    own, sender = transport(server, prefix, machine), transport(server, prefix, None)
    await own.open_machine()
    channel = f"specific.{machine.name}-AAAAAAAAAA!1"
    text = note.format(channel=channel)
    server.command("XADD", f"{prefix}|1|inbox|@{machine.name}!", "*", "e", text)
    await sender.send(channel, b"behind it")
    await wait_until(lambda: machine.delivered == [(channel, b"behind it")], "what is behind it comes")


async def test_a_process_with_a_shorter_expiry_does_not_shorten_the_machines_life(server: Server, prefix: str) -> None:
    machine = MemoryMachine()
    await transport(server, prefix, machine, expiry=60).open_machine()
    await transport(server, prefix, machine, expiry=1).open_machine()
    sender = transport(server, prefix, None, expiry=60)
    await outlive(3.5)  # longer than the shorter life, and shorter than a third of the other one
    await sender.send(f"specific.{machine.name}-AAAAAAAAAA!1", b"x")
    assert (await sender.statistics())["dead"] == 0


async def test_a_forged_registration_does_not_stop_others(server: Server, prefix: str) -> None:
    machine = MemoryMachine()
    own, sender = transport(server, prefix, machine), transport(server, prefix, None)
    await own.open_machine()
    await sender.send(f"specific.{machine.name}-AAAAAAAAAA!1", b"x")
    await wait_until(lambda: len(machine.delivered) == 1, "it comes")
    epoch = server.command("GET", f"{prefix}|1|epoch|").decode()
    text = f"1|99999999999999|{epoch}|=nobody,999999999999999|x"
    server.command("XADD", f"{prefix}|1|inbox|@{machine.name}!", "*", "e", text)
    await wait_until(lambda: counted(own, "undecodable"), "it is dropped")
    await own.group_add("g", "jobs")
    await sender.group_send("g", b"y")
    await wait_until(lambda: machine.delivered[1:] == [("jobs", b"y")], "the next one comes")


async def counted(half: RemoteHalf, key: str) -> int:
    return (await half.statistics())[key]


async def test_shared_memory_that_is_busy_for_a_while(server: Server, prefix: str) -> None:
    """The reader waits for it, and says so; that is no error of its own."""
    machine = MemoryMachine()
    own, sender = transport(server, prefix, machine), transport(server, prefix, None)
    await own.group_add("g", "jobs")
    await wait_until(lambda: probe(own).reads_for_the_machine, "it reads")
    machine.works = False
    await sender.group_send("g", b"x")
    await outlive(0.5)
    machine.works = True
    await wait_until(lambda: machine.delivered == [("jobs", b"x")], "it comes", 2)
    assert await counted(own, "errors") == 0


async def test_layers_of_a_machine_with_different_hosts_are_warned_of(
    server: Server, new_server: NewServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine = MemoryMachine()
    own = [transport(each, prefix, machine, expiry=1) for each in (server, new_server())]
    for each in own:
        await each.open_machine()
    await wait_until(lambda: "take turns with different data" in caplog.text, "it is noticed", 15)


@MODES
async def test_the_members_on_other_machines(server: Server, prefix: str, mode: str) -> None:
    """Asked are those machines that have members; one that does not answer is an error with what is known."""
    machines = [MemoryMachine() for _ in range(3)]
    first, second, third = (transport(server, prefix, machine, mode) for machine in machines)
    await first.group_add("g", "jobs")
    await second.group_add("g", "reports")
    await second.group_add("g", "mail")
    assert sorted(await first.group_channels("g", False)) == ["jobs", "mail", "reports"]
    assert sorted(await third.group_channels("g", False)) == ["jobs", "mail", "reports"]
    machines[1].works = False
    started = time.monotonic()
    with pytest.raises(RemoteUnavailable, match=r"^1 of 2 processes and machines on .* did not say in time") as caught:
        await third.group_channels("g", False)
    assert caught.value.partial == ["jobs"]
    assert time.monotonic() - started < 2 + 1
    machines[1].works = True
    await second.group_send("g", b"x")
    assert sorted(await third.group_channels("g", True)) == ["jobs", "mail", "reports"]
    assert await first.group_channels("g", False) == []
    await third.group_send("g", b"y")
    assert await third.group_channels("g", False) == [], "which comes behind the message"
    await first.group_add("g", "jobs")
    await third.group_send("g", b"z")
    await wait_until(lambda: ("jobs", b"z") in machines[0].delivered, "who joins again gets the next one")
    assert [payload for _, payload in machines[0].delivered] == [b"x", b"z"]
    assert sorted(machines[1].delivered) == [("mail", b"x"), ("reports", b"x")]
    for each in (first, second, third):
        await each.close()


@MODES
async def test_several_and_excluded_on_other_machines(server: Server, prefix: str, mode: str) -> None:
    machine = MemoryMachine()
    own, sender = transport(server, prefix, machine, mode), transport(server, prefix, None, mode)
    for channel in ("jobs", "reports"):
        await own.group_add("g", channel)
    excluded = {"jobs": ("",)}
    await sender.group_send_multiple("g", [b"1", b"2"], {})
    await sender.group_send_multiple("g", [enclosed(b"3", fields_without(excluded))], excluded)
    for payload in (b"\xc1", b"\xc1\0\1\x90", b"\xc1\0\4\x81\xa1q\1"):  # a stranger's
        await sender.group_send("g", payload)
    await sender.group_send("g", b"4")
    await wait_until(lambda: ("reports", b"4") in machine.delivered, "all have come")
    assert [payload for name, payload in machine.delivered if name == "jobs"] == [b"1", b"2", b"4"]
    others = [opened(payload) for name, payload in machine.delivered if name == "reports"]
    assert others == [b"1", b"2", b"3", b"4"]
    assert (await own.statistics())["undecodable"] + machine.counted["undecodable"] == 3
    for each in (own, sender):
        await each.close()
