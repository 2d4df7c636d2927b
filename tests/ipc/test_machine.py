"""The machine as an addressee: what its groups' records say, who reads, which channels are its own."""

from __future__ import annotations

import asyncio
import mmap
import os
from functools import partial
from typing import Any

from hybrid_layer.exceptions import GroupMemoryFull
from hybrid_layer.ipc.machine import LocalMachine
from hybrid_layer.transport import Group, Taken, View
from tests.ipc.streaming import REGISTRATION, SHARD, answer, begun, entry, machine_of, next_of, put
from tests.ipc.tools import check, layer_of, remove_segment, segment_path
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.waiting import outlive, wait_until

DAY = 86400.0


async def groups_of(machine: LocalMachine) -> dict[str, Group]:
    found: dict[str, Group] = {}
    place: int | None = 0
    while place is not None:
        place, groups = await machine.groups(place)
        found |= {group.name: group for group in groups}
    return found


async def recorded(machine: LocalMachine, group: str, channel: str, t: int = 5) -> View:
    """A member of a group of which the server knows."""
    view = await begun(machine)
    assert await machine.join(group, channel, SHARD) == (True, False)
    await machine.record(group, SHARD, view, t, 2 * DAY)
    assert await machine.join(group, channel, SHARD) == (False, True)
    return view


# Records


async def test_a_record_makes_commands_needless(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    own, other = await layer.new_channel(), await layer.new_channel()
    view = await recorded(machine, "g", own)
    assert await machine.join("g", other, SHARD) == (True, True)
    assert await machine.join("g", "queue", SHARD) == (True, True)
    assert await machine.join("g", own, SHARD + 1) == (False, False), "another home"
    await machine.record("nobody's", SHARD, view, 6, DAY)
    assert list(await groups_of(machine)) == ["g"]
    # It is valid under one R.
    await machine.renewed(SHARD, view, answer(10, registration=REGISTRATION + 1))
    assert await machine.join("g", own, SHARD) == (False, False)
    await machine.record("g", SHARD, view, 6, 2 * DAY)
    assert await machine.join("g", own, SHARD) == (False, False), "asked under the R before"
    await machine.record("g", SHARD, await machine.look(SHARD), 6, 2 * DAY)
    assert await machine.join("g", own, SHARD) == (False, True)
    await machine.void(SHARD)
    assert await machine.join("g", own, SHARD) == (False, False)
    await machine.record("g", SHARD, await machine.look(SHARD), 7, 2 * DAY)
    assert await machine.join("g", own, SHARD) == (False, False), "no R is none"


async def test_a_record_is_valid_until_the_membership_ends(prefix: str) -> None:
    layer = layer_of(prefix, group_expiry=60)
    machine = machine_of(layer)
    view = await begun(machine)
    await machine.join("g", "queue", SHARD)
    for life, is_recorded in ((59.0, False), (61.0, True)):
        await machine.record("g", SHARD, view, 5 + is_recorded, life)
        assert await machine.join("g", "queue", SHARD) == (False, is_recorded)


async def test_answers_that_come_late(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    view = await recorded(machine, "g", "queue", t=5)
    await machine.record("g", SHARD, view, 4, 1.0)
    assert await machine.join("g", "queue", SHARD) == (False, True), "it is not newer"
    assert (await groups_of(machine))["g"].t == 5
    # A forget before the answer.
    await machine.leave("g", "queue")
    assert await machine.forget("g", SHARD, 5)
    await machine.join("g", "queue", SHARD)
    await machine.record("g", SHARD, view, 5, 2 * DAY)
    assert await machine.join("g", "queue", SHARD) == (False, False)
    await machine.record("g", SHARD, view, 6, 2 * DAY)
    assert await machine.join("g", "queue", SHARD) == (False, True)
    # Asked before the position was set anew: perhaps in another segment.
    await machine.renewed(SHARD, view, answer(1))
    await machine.record("g", SHARD, view, 7, 2 * DAY)
    assert (await groups_of(machine))["g"].t == 6


async def test_groups_without_members_stay_for_a_while(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    assert not machine.has_groups()
    await machine.join("plain", "queue", SHARD)
    assert machine.has_groups()
    await machine.leave("plain", "queue")
    assert not machine.has_groups()
    await recorded(machine, "g", "queue")
    assert await groups_of(machine) == {"g": Group("g", SHARD, 5, 0.0)}
    await machine.leave("g", "queue")

    async def is_idle() -> bool:
        return 0.1 < (await groups_of(machine))["g"].idle < 60

    await wait_until(is_idle, "time passes")
    assert machine.has_groups()
    assert await machine.join("g", "queue", SHARD) == (True, True)
    assert not await machine.forget("g", SHARD, 5), "it has a member"
    assert (await groups_of(machine))["g"].idle == 0
    await machine.leave("g", "queue")
    assert not await machine.forget("g", SHARD, 4), "it is registered anew"
    assert await machine.forget("g", SHARD, 5)
    assert not machine.has_groups()
    assert (await machine.look(SHARD)).forgotten == 5
    assert await machine.forget("g", SHARD, 3), "nothing is there"
    assert (await machine.look(SHARD)).forgotten == 5
    assert not await machine.forget("g", 64, 9)
    check(layer)


async def test_a_group_stays_no_longer_than_its_record(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    view = await begun(machine)
    for name in ("left", "expired"):
        await machine.join(name, "queue", SHARD)
        await machine.record(name, SHARD, view, 5, 0.2)
    await machine.leave("left", "queue")
    await outlive(0.2)
    await machine.leave("expired", "queue")

    async def is_gone() -> bool:
        await layer.send("a", {})  # does housekeeping
        await layer.receive("a")
        return not await groups_of(machine)

    await wait_until(is_gone, "both are freed")


async def test_a_flush_frees_groups_without_members(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    await recorded(machine, "g", "queue")
    await machine.leave("g", "queue")
    await layer.flush()
    assert not machine.has_groups()
    assert check(layer)["groups"] == 0


async def test_groups_without_members_make_room(prefix: str) -> None:
    layer = layer_of(prefix, group_memory=1 << 16)
    machine = machine_of(layer)
    view = await begun(machine)

    async def has_room(name: str) -> bool:
        try:
            return await machine.join(name, "queue", SHARD) == (True, False)
        except GroupMemoryFull:  # it has just been swept
            return False

    for n in range(3000):
        await wait_until(partial(has_room, f"g{n}"), "groups are freed")
        await machine.record(f"g{n}", SHARD, view, 5, DAY)
        await machine.leave(f"g{n}", "queue")
    assert 0 < check(layer)["groups"] < 1100


async def test_many_groups_are_listed(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    names = {f"{'long-' * 15 if n % 2 else ''}{n}" for n in range(500)}
    for name in names:
        await machine.join(name, "queue", SHARD)
    assert set(await groups_of(machine)) == names
    assert await machine.groups(1 << 30) == (None, [])


async def test_the_memberships_of_a_machine_are_restored(prefix: str) -> None:
    """And as their groups' records stay behind, the servers are told of all groups again."""
    layer = layer_of(prefix)
    machine = machine_of(layer)
    own = await layer.new_channel()
    view = await recorded(machine, "g", own)
    await machine.join("left", own, SHARD)
    await machine.leave("left", own)
    await machine.walked(SHARD, REGISTRATION)
    remove_segment(prefix)
    probe(layer).housekeeping_is_due()
    await layer.send("queue", {})
    assert set(await groups_of(machine)) == {"g"}
    after = await machine.look(SHARD)
    assert (after.registration, after.walked) == (0, 0)
    assert await machine.join("g", own, SHARD) == (False, False)
    await machine.record("g", SHARD, view, 6, 2 * DAY)
    assert await machine.join("g", own, SHARD) == (False, False), "registered under the old segment's R"


async def test_damaged_records_are_not_believed(prefix: str) -> None:
    """Whichever bit of them is wrong."""
    layer = layer_of(prefix)
    machine = machine_of(layer)
    name = "a-group-with-this-name"
    view = await recorded(machine, name, "queue")
    with mapped(prefix) as memory:
        at = memory.find(name.encode()) - 41
        assert at % 64 == 0
        # Check; t, until, registration; the shard.
        bits = [*range(6 * 8, 8 * 8), *range(16 * 8, 36 * 8), *range(40 * 8, 41 * 8)]
        believed = []
        for bit in bits:
            memory[at + bit // 8] ^= 1 << bit % 8
            if (await machine.join(name, "queue", SHARD))[1]:
                believed.append(bit)
            memory[at + bit // 8] ^= 1 << bit % 8
        assert not believed
    assert await machine.join(name, "queue", SHARD) == (False, True)
    with mapped(prefix) as memory:
        memory[at + 6] ^= 1
    await machine.record(name, SHARD, view, 6, 2 * DAY)
    assert await machine.join(name, "queue", SHARD) == (False, True)


async def test_a_damaged_position_is_not_believed(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    view = await begun(machine, last=0x1234567890)
    with mapped(prefix) as memory:
        place = memory.find((0x1234567890).to_bytes(8, "little"))
        for bit in range(128):
            memory[place + bit // 8] ^= 1 << bit % 8
            assert (await machine.look(SHARD)).position is None
            assert await put(machine, view, entry(0x1234567891)) is Taken.STALE
            memory[place + bit // 8] ^= 1 << bit % 8
        assert (await machine.look(SHARD)).position == view.position
        memory[place] ^= 1
    await machine.renewed(SHARD, view, answer(7))
    assert (await machine.look(SHARD)).position == (7, 0)


class mapped:  # noqa: N801  # a function, but for its type
    """The segment's memory, to do harm in it."""

    def __init__(self, prefix: str) -> None:
        self._path = segment_path(prefix)

    def __enter__(self) -> mmap.mmap:
        descriptor = os.open(self._path, os.O_RDWR)
        try:
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        return self._memory

    def __exit__(self, *error: object) -> None:
        self._memory.close()


# Whose channel


async def test_which_channels_are_its_own(prefix: str) -> None:
    layer, other = layer_of(prefix), layer_of(f"{prefix}other")
    machine = machine_of(layer)
    id, elsewhere = await machine.id(), await machine_of(other).id()
    own = await layer.new_channel()
    process = "A2B3C4D5E6"
    assert id != elsewhere
    assert await machine.owns(own)
    assert await machine.owns(f"specific.{id}-{process}!1")
    assert await machine.owns("queue")
    assert not await machine.owns("elsewhere.queue")
    assert not await machine.owns(f"specific.{elsewhere}-{process}!1")
    assert not await machine.owns(f"specific.{process}!1")
    assert not await machine.owns(f"specific.{id}-{process}x!1")
    assert not await machine.owns(f"specific.{id}!1")


async def test_a_group_message_names_the_machine(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    await machine.join("g", "queue", SHARD)
    assert await machine.group_send("g", b"1") == await machine.id()
    assert await machine.group_send("nobody", b"2") == await machine.id()
    assert await next_of(layer, "queue") == b"1"


async def test_members_that_are_not_here(prefix: str) -> None:
    machine = machine_of(layer_of(prefix))
    assert await machine.join("g", "specific.nobody!1", SHARD) == (False, True)
    assert not machine.has_groups()


async def test_inboxes_are_counted(prefix: str, spawn: Spawn) -> None:
    layer, second = layer_of(prefix), layer_of(prefix)
    machine = machine_of(layer)
    await layer.new_channel()
    await second.new_channel()
    other = spawn("tests.ipc.tools:echo", prefix, {}, "work")
    await asyncio.to_thread(other.ready)
    assert (await machine.look(SHARD)).inboxes == 3
    await layer.send("work", {"n": 0, "reply": ""})
    await asyncio.to_thread(other.result)
    assert (await machine.look(SHARD)).inboxes == 2


# Who reads


async def test_leases(prefix: str, spawn: Spawn) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    assert machine.leases(4) == [0, 0, 0, 0]
    first = machine.take_lease(1, 0)
    assert machine.leases(4) == [0, first, 0, 0]
    assert machine.take_lease(1, 0) == 0
    second = machine.take_lease(1, first)
    assert second not in (0, first)
    assert machine.take_lease(1, first) == 0
    machine.drop_lease(1, first)
    assert machine.leases(2) == [0, second]
    machine.drop_lease(1, second)
    assert machine.leases(2) == [0, 0]
    assert machine.take_lease(1, 0) not in (0, first, second)
    assert machine.take_lease(64, 0) == 0
    assert len(machine.leases(1000)) == 64
    machine.drop_lease(64, 1)


async def test_a_lease_is_one_processs(prefix: str, spawn: Spawn) -> None:
    """Another process may take it over, and has it at once when the first one has died."""
    layer = layer_of(prefix)
    machine = machine_of(layer)
    own = machine.take_lease(0, 0)
    other = spawn("tests.ipc.test_machine:hold_leases", prefix)
    taken_over, refused, kept = await asyncio.to_thread(other.ready)
    assert (refused, machine.leases(3)) == (0, [taken_over, 0, kept])
    assert machine.take_lease(0, own) == 0
    machine.drop_lease(0, own)
    assert machine.take_lease(2, 0) == 0
    other.kill()
    await wait_until(lambda: machine.leases(3) == [0, 0, 0], "the leases of the dead are nobody's")
    assert machine.take_lease(2, 0) not in (0, kept)
    assert machine.take_lease(0, own) == 0, "it has not become what it was"


async def hold_leases(parent: Parent, prefix: str) -> None:
    machine = machine_of(layer_of(prefix))
    seen = machine.leases(1)[0]
    parent.ready((machine.take_lease(0, seen), machine.take_lease(0, seen), machine.take_lease(2, 0)))
    parent.receive()


async def test_outages(prefix: str) -> None:
    machine, other = machine_of(layer_of(prefix)), machine_of(layer_of(prefix))
    assert machine.outages(2) == [0, 0]
    for is_lost, number in ((False, 0), (True, 1), (True, 1), (False, 2), (True, 3)):
        other.set_outage(1, is_lost)
        assert machine.outages(2) == [0, number]
    machine.set_outage(64, True)


async def test_nothing_of_this_waits_for_the_lock(prefix: str, stopper: Any) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    await recorded(machine, "g", "queue")
    view = await machine.look(SHARD)
    holder = stopper(prefix)
    holder.stop()
    lease = machine.take_lease(0, 0)
    machine.set_outage(0, True)
    assert (machine.leases(1), machine.outages(1), machine.has_groups()) == ([lease], [1], True)
    machine.drop_lease(0, lease)
    assert await put(machine, view, entry(11)) is Taken.LATER
    machine.meet_flush(SHARD, view.incarnation, view.flushes + 1)  # is done as soon as the lock is free
    holder.go_on()
    holder.leave()

    async def is_flushed() -> bool:
        probe(layer).housekeeping_is_due()
        await layer.send("other", {})
        return (await machine.look(SHARD)).flushes == view.flushes + 1

    await wait_until(is_flushed, "the flush is followed")
    assert not machine.has_groups()
