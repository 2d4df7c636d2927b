"""A machine's streams: their entries get into the segment once and in order, whoever reads them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

import pytest

from hybrid_layer.envelope import enclosed, fields_without, opened
from hybrid_layer.ipc import IPCChannelLayer, _core
from hybrid_layer.transport import Position, Taken, View
from tests.ipc.streaming import (
    INCARNATION,
    REGISTRATION,
    RUN,
    SHARD,
    answer,
    begun,
    entry,
    machine_of,
    next_of,
    position,
    put,
    taken,
)
from tests.ipc.test_memory_full import send_until_full
from tests.ipc.tools import check, layer_of, receive, remove_segment
from tests.support.forked import exit_code, fork
from tests.support.loops import run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Process, Spawn
from tests.support.waiting import any_moment, block, wait_until

GONE = "specific.nobody!1"


async def test_each_entry_once_and_in_order(prefix: str) -> None:
    layer, other = layer_of(prefix), layer_of(prefix)
    own = await layer.new_channel()
    readers = [machine_of(layer), machine_of(other)]
    view = await begun(readers[0])
    outcomes = []
    for id in (11, 12, 11, 13, 12, 13, 14):
        outcomes += [await put(reader, view, entry(id, channel=own)) for reader in readers]
    done, seen = Taken.DONE, Taken.SEEN
    assert outcomes == [done, seen, done, seen, seen, seen, done, seen, seen, seen, seen, seen, done, seen]
    assert [await taken(layer, own) for _ in range(4)] == [b"11", b"12", b"13", b"14"]
    assert (await layer.statistics())["sent"] == 0, "its sender has counted it"
    # The second part of an id counts, and the first one more.
    later = [Position(14, 1), Position(14, 1), Position(13, 9), Position(14, 1 << 63), Position(15, 0)]
    outcomes = [await put(readers[1], view, entry(0)._replace(id=id)) for id in later]
    assert outcomes == [done, seen, seen, done, done]
    check(layer)


async def test_views_out_of_date(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    unknown = await machine.look(SHARD)
    assert (unknown.position, unknown.run, unknown.registration) == (None, 0, 0)
    assert unknown.machine == await machine.id()
    assert await put(machine, unknown, entry(11)) is Taken.STALE
    view = await begun(machine)
    assert (view.position, view.run, view.incarnation, view.flushes) == (Position(10, 0), RUN, INCARNATION, 1)
    assert (view.registration, view.walked, view.forgotten) == (REGISTRATION, 0, 0)
    assert await put(machine, unknown, entry(11)) is Taken.STALE
    assert await put(machine, view._replace(machine="A" * 10), entry(11)) is Taken.STALE
    assert await put(machine, view, entry(11, incarnation=INCARNATION + 1)) is Taken.STALE
    assert await machine.put(SHARD + 1, view, entry(11)) is Taken.STALE
    assert await machine.put(64, view, entry(11)) is Taken.STALE
    assert await position(machine) == 10
    assert await put(machine, view, entry(11)) is Taken.DONE
    await machine.renewed(SHARD, view, answer(5))
    assert await position(machine) == 11, "it has moved since the question"
    await machine.renewed(SHARD, await machine.look(SHARD), answer(5))
    assert await position(machine) == 5, "ids were lost"
    assert await put(machine, view, entry(6)) is Taken.STALE
    assert await put(machine, await machine.look(SHARD), entry(6)) is Taken.DONE


async def test_another_server(prefix: str) -> None:
    """With fewer flushes: only then is that believed."""
    layer = layer_of(prefix)
    machine = machine_of(layer)
    view = await begun(machine)
    await machine.renewed(SHARD, view, answer(20, flushes=0))
    assert (await machine.look(SHARD)).flushes == 1
    await machine.renewed(SHARD, view, answer(20, flushes=0, run=RUN + 1, registration=2))
    after = await machine.look(SHARD)
    assert after == view._replace(turn=view.turn + 1, run=RUN + 1, flushes=0, registration=2), "the lower position"
    await machine.renewed(SHARD, view, answer(8, run=RUN + 2, registration=3))
    assert await machine.look(SHARD) == after, "its question was asked before the position was set anew"
    await machine.renewed(SHARD, after, answer(8, incarnation=6, registration=3, run=RUN + 1))
    assert (await machine.look(SHARD))[1:5] == (Position(8, 0), after.turn + 1, RUN + 1, 6)


async def test_registration_is_compared(prefix: str) -> None:
    machine = machine_of(layer_of(prefix))
    view = await begun(machine)
    await machine.renewed(SHARD, view._replace(registration=8), answer(10, registration=5))
    assert (await machine.look(SHARD)).registration == REGISTRATION
    await machine.renewed(SHARD, view, answer(10, registration=5))
    assert (await machine.look(SHARD)).registration == 5
    await machine.walked(SHARD, REGISTRATION)
    assert (await machine.look(SHARD)).walked == 0
    await machine.walked(SHARD, 5)
    assert (await machine.look(SHARD)).walked == 5
    await machine.void(SHARD)
    assert (await machine.look(SHARD)).registration == 0


async def test_entries_of_every_kind(prefix: str) -> None:
    layer = layer_of(prefix, capacity=3)
    machine = machine_of(layer)
    own, queue = await layer.new_channel(), "queue"
    view = await begun(machine)
    assert await put(machine, view, entry(11, "+", group="g", channel=own)) is Taken.DONE
    assert await put(machine, view, entry(12, "group", group="g", t=5)) is Taken.DONE
    assert await taken(layer, own) == b"12"
    await machine.join("g", queue, SHARD)
    assert await put(machine, view, entry(13, "group", group="g", t=5, payload=b"x" * 100_000)) is Taken.DONE
    assert await taken(layer, own) == await taken(layer, queue) == b"x" * 100_000
    assert await put(machine, view, entry(14, channel=own, payload=b"y" * 100_000)) is Taken.DONE
    assert await taken(layer, own) == b"y" * 100_000
    assert await put(machine, view, entry(15, "-", group="g", channel=own)) is Taken.DONE
    assert await put(machine, view, entry(16, "group", group="g", t=5)) is Taken.DONE
    assert await taken(layer, queue) == b"16"
    assert await next_of(layer, own) == b"last"
    for id in range(17, 21):
        assert await put(machine, view, entry(id, "nothing")) is Taken.DONE
    await machine.leave("g", queue)
    assert await put(machine, view, entry(21, "group", group="g", t=5)) is Taken.FORGET
    assert await put(machine, view, entry(22, "group", group="g")) is Taken.DONE, "the server knows of no T"
    assert await position(machine) == 22
    assert check(layer)["groups"] == 0


async def test_nothing_that_comes_from_a_server_makes_a_queue(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    view = await begun(machine)
    odd = [
        *(entry(0, channel=name) for name in ("queue", GONE, "", "x" * 200 + "!", "!")),
        *(entry(0, kind, group="g", channel=name) for kind in "+-" for name in ("queue", GONE, "", "x" * 200 + "!1")),
        *(entry(0, "group", group=name) for name in ("", "x" * 200)),
    ]
    for id, arrival in enumerate(odd, start=11):
        assert await put(machine, view, arrival._replace(id=Position(id, 0))) is Taken.DONE
    assert await position(machine) == 10 + len(odd)
    totals = check(layer)
    assert (totals["channels"], totals["groups"]) == (0, 0)


async def test_full_and_dead_are_counted(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    layer = layer_of(prefix, capacity=2)
    machine = machine_of(layer)
    own = await layer.new_channel()
    await machine.join("g", own, SHARD)
    view = await begun(machine)
    for id in range(11, 15):
        assert await put(machine, view, entry(id, channel=own)) is Taken.DONE
    assert await put(machine, view, entry(15, "group", group="g", t=5)) is Taken.DONE, "the member is there"
    assert await put(machine, view, entry(16, channel=GONE)) is Taken.DONE
    counts = await layer.statistics()
    assert (counts["sent"], counts["full"], counts["dead"]) == (0, 3, 1)
    assert await taken(layer, own) == b"11"
    texts = [record.getMessage() for record in caplog.records]
    assert any("from another machine" in text and "capacity of 2" in text for text in texts)
    assert any("to group g was dropped for 1" in text for text in texts)


async def test_capacities_by_name(prefix: str) -> None:
    layer = layer_of(prefix, channel_capacity={"narrow": 1})
    machine = machine_of(layer)
    view = await begun(machine)
    for name in ("narrow", "wide"):
        await machine.join("g", name, SHARD)
    for id in (11, 12):
        assert await put(machine, view, entry(id, "group", group="g")) is Taken.DONE
    assert (await layer.statistics())["full"] == 1
    assert [await taken(layer, "wide") for _ in range(2)] == [b"11", b"12"]
    assert await taken(layer, "narrow") == b"11"


# Flushes


async def test_a_flush_in_one_step_with_the_entry_that_tells(prefix: str) -> None:
    layer, other = layer_of(prefix), layer_of(prefix)
    machine = machine_of(layer)
    own = await layer.new_channel()
    view = await begun(machine)
    await machine.join("g", own, SHARD)
    await layer.send("queue", {"n": "lost"})
    assert await put(machine, view, entry(11, channel=own)) is Taken.DONE
    assert await put(machine, view, entry(12, channel=own, flushes=2)) is Taken.DONE
    assert await put(machine, view, entry(13, channel=own, flushes=1)) is Taken.DONE, "from before: passed over"
    assert await taken(layer, own) == b"12"
    totals = check(layer)
    assert (totals["messages"], totals["members"]) == (0, 0)
    assert (await machine.look(SHARD)).registration == 0
    assert await put(machine, view, entry(14, "flush", flushes=3)) is Taken.DONE
    assert (await machine.look(SHARD)).flushes == 3
    # By a renewal, too. A registration from before is none, and one that the server has made since is.
    await layer.send("queue", {"n": "lost"})
    view = await machine.look(SHARD)
    await machine.renewed(SHARD, view, answer(14, flushes=4, registration=12))
    assert (await machine.look(SHARD)).registration == 12
    await machine.renewed(SHARD, await machine.look(SHARD), answer(14, flushes=5, registration=12))
    assert (await machine.look(SHARD)).registration == 0
    assert check(layer)["messages"] == 0
    await other.send("queue", {"n": 1})
    assert await receive(layer, "queue") == 1


async def test_a_flush_that_is_met_elsewhere(prefix: str) -> None:
    """Of several servers, one after the other: the segment is flushed once, and each one's registration is void."""
    layer = layer_of(prefix)
    machine = machine_of(layer)
    for shard in range(3):
        await begun(machine, shard=shard)
    await layer.send("queue", {"n": "lost"})
    machine.meet_flush(0, INCARNATION, 2)
    assert check(layer)["messages"] == 0
    await layer.send("queue", {"n": 1})
    machine.meet_flush(1, INCARNATION, 2)
    registrations = [(await machine.look(shard)).registration for shard in range(3)]
    assert registrations == [0, 0, REGISTRATION]
    machine.meet_flush(2, INCARNATION + (1 << 24), 1)
    machine.meet_flush(2, INCARNATION, 1)
    assert (await machine.look(2)).registration == REGISTRATION, "no news"
    machine.meet_flush(2, INCARNATION + 1, 1)
    assert (await machine.look(2)).registration == 0, "data were lost"
    machine.meet_flush(64, INCARNATION, 1)
    assert await receive(layer, "queue") == 1


async def test_a_flush_by_servers_is_not_undone_by_a_move(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    own = await layer.new_channel()
    await begun(machine)
    await layer.group_add("old", own)
    machine.meet_flush(SHARD, INCARNATION, 2)
    await layer.group_add("new", own)
    remove_segment(prefix)
    probe(layer).housekeeping_is_due()
    await layer.send("queue", {"n": 1})
    assert [group.name for group in (await all_groups(machine))] == ["new"]


async def all_groups(machine: Any) -> list[Any]:
    place, found = 0, []
    while place is not None:
        place, groups = await machine.groups(place)
        found += groups
    return found


# Memory


async def test_no_memory_is_no_reason_to_move_on(prefix: str) -> None:
    layer = layer_of(prefix, message_memory=1 << 16, capacity=10_000)
    machine = machine_of(layer)
    own = await layer.new_channel()
    await machine.join("g", own, SHARD)
    view = await begun(machine)
    await send_until_full(layer, 1000)
    for kind in ("direct", "group"):
        arrival = entry(11, kind, channel=own, group="g", payload=b"x" * 5000)
        assert await put(machine, view, arrival) is Taken.LATER
    assert await position(machine) == 10
    while (await layer.statistics())["received"] < 10:
        await layer.receive("jobs")
    assert await put(machine, view, arrival) is Taken.DONE
    assert await taken(layer, own) == b"x" * 5000
    check(layer)


async def test_what_will_never_fit_is_dropped(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    """Or nothing behind it would ever come."""
    layer = layer_of(prefix, message_memory=1 << 16)
    machine = machine_of(layer)
    own = await layer.new_channel()
    await machine.join("g", own, SHARD)
    view = await begun(machine)
    for id, kind, size in ((11, "direct", 65_000), (12, "group", 65_000)):
        assert await put(machine, view, entry(id, kind, channel=own, group="g", payload=b"x" * size)) is Taken.DONE
    assert (await layer.statistics())["memory"] == 2
    assert len([record for record in caplog.records if "has no room for all of it" in record.getMessage()]) == 2
    assert await next_of(layer, own) == b"last"


async def test_a_membership_that_finds_no_memory_is_dropped(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    layer = layer_of(prefix, group_memory=1 << 16)
    machine = machine_of(layer)
    own = await layer.new_channel()
    view = await begun(machine)
    id = 10
    while (await layer.statistics())["memory"] == 0:
        id += 1
        assert await put(machine, view, entry(id, "+", group=f"g{id}", channel=own)) is Taken.DONE
    assert await position(machine) == id
    assert any("all of group_memory is in use" in record.getMessage() for record in caplog.records)


# Moves


async def moved(layer: IPCChannelLayer, prefix: str) -> None:
    core = probe(layer).core
    remove_segment(prefix)
    probe(layer).housekeeping_is_due()
    await layer.send("queue", {"n": 1})
    assert probe(layer).core is not core


async def test_a_move_takes_all_along(prefix: str) -> None:
    layer = layer_of(prefix)
    machine = machine_of(layer)
    own = await layer.new_channel()
    view = await begun(machine)
    assert await put(machine, view, entry(11, channel=own)) is Taken.DONE
    await machine.walked(SHARD, REGISTRATION)
    await machine.forget("nobody", SHARD, 7)
    machine.set_outage(SHARD, True)
    view, other = await machine.look(SHARD), await machine.look(SHARD + 1)
    began = time.monotonic()
    await moved(layer, prefix)
    assert await machine.look(SHARD) == view._replace(turn=view.turn + 1, walked=0)
    assert await machine.look(SHARD + 1) == other._replace(turn=other.turn + 1)
    assert machine.outages(64)[SHARD] == 1
    assert await put(machine, view, entry(12, channel=own)) is Taken.STALE
    view = await machine.look(SHARD)
    # The other processes register first.
    assert await put(machine, view, entry(12, channel=own)) is Taken.LATER
    assert await put(machine, view, entry(11, channel=own)) is Taken.SEEN

    async def is_taken() -> bool:
        return await put(machine, view, entry(12, channel=own)) is Taken.DONE

    await wait_until(is_taken, "the machine reads again")
    assert 2 <= time.monotonic() - began < 4
    assert await taken(layer, own) == b"12"


async def test_a_stranger_takes_all_along(prefix: str, spawn: Spawn) -> None:
    """It finds a segment that was left, by processes that have not come yet."""
    layer = layer_of(prefix)
    machine = machine_of(layer)
    await begun(machine)
    core, view = probe(layer).core, await machine.look(SHARD)
    core.retire()
    found = await asyncio.to_thread(spawn("tests.ipc.test_streams:look_as_stranger", prefix).result)
    assert found == tuple(view._replace(turn=view.turn + 1, walked=0, inboxes=0))
    assert await machine.id() == view.machine
    await moved_with_the_others(layer, core)
    assert (await machine.look(SHARD)).position == Position(10, 0)


async def moved_with_the_others(layer: IPCChannelLayer, core: Any) -> None:
    probe(layer).housekeeping_is_due()
    await layer.send("queue", {"n": 1})
    assert probe(layer).core is not core


async def look_as_stranger(parent: Parent, prefix: str) -> tuple[Any, ...]:
    layer = layer_of(prefix)
    await layer.send("queue", {"n": 1})  # so that it stays
    return tuple(await machine_of(layer).look(SHARD))


async def test_without_the_old_lock_the_position_is_unknown(prefix: str, stopper: Any) -> None:
    """It ends where the stream ends when the first renewal is answered: lost, and never twice."""
    layer = layer_of(prefix)
    machine = machine_of(layer)
    await begun(machine)
    view = await machine.look(SHARD)
    holder = stopper(prefix)
    holder.stop()
    await moved(layer, prefix)
    now = await machine.look(SHARD)
    assert now.machine == view.machine
    assert (now.position, now.run, now.incarnation, now.registration) == (None, 0, 0, 0)
    assert now.turn != view.turn
    assert await put(machine, view, entry(11)) is Taken.STALE
    await machine.renewed(SHARD, view, answer(12))
    assert (await machine.look(SHARD)).position is None, "asked before the move"
    await machine.renewed(SHARD, now, answer(12))
    assert await position(machine) == 12
    assert await put(machine, await machine.look(SHARD), entry(13)) is Taken.LATER
    holder.go_on()


def test_a_forked_child_takes_all_along(prefix: str, spawn: Spawn) -> None:
    """It finds its parent's segment removed, and makes the next one: the parent takes nothing in any more.

    In the portable build the next one does not know the position, and the parent takes in until it moves, too.
    """
    assert spawn("tests.ipc.test_streams:move_in_a_child", prefix).result() == 0


def move_in_a_child(parent: Parent, prefix: str) -> int:
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())
    layer = layer_of(prefix)
    machine = machine_of(layer)
    view = run(begun(machine))
    remove_segment(prefix)

    def has_moved() -> bool:
        found = run(machine.look(SHARD))
        if _core.PORTABLE:
            return found.machine == view.machine and found.position is None
        return found == view._replace(turn=view.turn + 1)

    def child() -> None:
        assert has_moved()
        run(layer.send("queue", {"n": 1}))

    code = exit_code(fork(child))
    assert run(put(machine, view, entry(11))) is (Taken.DONE if _core.PORTABLE else Taken.STALE)
    assert run(receive(layer, "queue")) == 1
    assert has_moved()
    return code


# By chance


class Site:
    """A stream with flushes and failovers that lose nothing, and two who read it when they like."""

    def __init__(self, layer: IPCChannelLayer, own: str, seed: int) -> None:
        self.own, self.chance = own, random.Random(seed)
        self.readers = [machine_of(layer), machine_of(layer)]
        self.views: list[View] = []
        self.run, self.last, self.flushes = 1, 10, 1
        self.log: dict[int, int] = {}
        """By id: after how many flushes."""
        self.done: list[int] = []

    async def renew(self) -> None:
        machine = self.readers[0]
        said = answer(self.last, self.flushes, run=self.run, registration=self.run)
        await machine.renewed(SHARD, await machine.look(SHARD), said)

    async def step(self) -> None:
        chance = self.chance
        n = chance.randrange(2)
        match chance.choice("sslrfopppp"):
            case "s":
                self.last += chance.randrange(1, 4)
                self.log[self.last] = self.flushes
            case "l":
                self.views[n] = await self.readers[n].look(SHARD)
            case "r":
                await self.renew()
            case "f":
                self.flushes += chance.random() < 0.2
            case "o":
                self.run += chance.random() < 0.2
            case "p":
                position = self.views[n].position
                assert position is not None
                await self.read(n, [id for id in self.log if id > position.ms][:3])

    async def read(self, n: int, ids: list[int]) -> None:
        machine = self.readers[n]
        for id in ids:
            before = await position(machine)
            outcome = await put(machine, self.views[n], entry(id, channel=self.own, flushes=self.log[id]))
            if outcome is Taken.DONE:
                assert before is not None
                assert id > before
                self.done.append(id)
            else:
                assert outcome in (Taken.SEEN, Taken.STALE)
                assert await position(machine) == before


@pytest.mark.parametrize("seed", range(5))
async def test_against_a_model(prefix: str, seed: int) -> None:
    """All entries are taken in once, in order, and none is lost, but for what a flush has removed."""
    layer = layer_of(prefix, capacity=10_000)
    site = Site(layer, await layer.new_channel(), seed)
    await site.renew()
    site.views = [await site.readers[0].look(SHARD)] * 2
    for _ in range(400):
        await site.step()
    await site.renew()
    site.views[0] = await site.readers[0].look(SHARD)
    await site.read(0, list(site.log))
    assert site.done == list(site.log)
    got = []
    while (payload := await next_of(layer, site.own)) != b"last":
        got.append(int(payload))
    assert got == [id for id, flushes in site.log.items() if flushes == site.flushes]
    check(layer)


# Processes that read one stream


async def read_on(parent: Parent, prefix: str) -> list[int]:
    """A reader of a stream that has one entry each millisecond, until told to end: what it has taken in."""
    logging.getLogger("hybrid_layer").addHandler(logging.NullHandler())  # of the moves
    layer = layer_of(prefix)
    machine = machine_of(layer)
    began, done = parent.receive(), []

    def last() -> int:
        return int((time.monotonic() - began) * 1000)

    parent.ready()
    while not parent.has_news():
        view = await machine.look(SHARD)
        if view.position is None:
            await machine.renewed(SHARD, view, answer(last(), registration=1))
            continue
        for id in range(view.position.ms + 1, min(last(), view.position.ms + 17)):
            taken = await put(machine, view, entry(id, "nothing"))
            if taken is Taken.DONE:
                done.append(id)
            elif taken is not Taken.SEEN:
                await any_moment(0.01)
                break
        await any_moment(0.002)
        probe(layer).housekeeping_is_due()
        await layer.group_send("nobody", {})  # which moves, if the segment is lost
    return done


def pause_outside(reader: Process, layer: IPCChannelLayer) -> None:
    """Stop it where it does not hold the lock: there, the others could not read what it has taken in."""
    while True:
        reader.pause()
        if probe(layer).core.lock_word >> 1 & 0x7FF == 0:
            return
        reader.resume()


@pytest.mark.thorough
def test_readers_in_moves(prefix: str, spawn: Spawn) -> None:
    """Entries are taken in once, in order, and none is lost: by three processes, two of which are stopped at times."""
    readers = [spawn("tests.ipc.test_streams:read_on", prefix) for _ in range(3)]
    began = time.monotonic()
    for reader in readers:
        reader.send(began)
        reader.ready()
    for _ in range(3):
        block(time.monotonic() + 2.3)  # the pause after a move, and some more
        layer = layer_of(prefix)
        pause_outside(readers[0], layer)
        remove_segment(prefix)
        block(time.monotonic() + 0.5)
        readers[0].resume()
        pause_outside(readers[1], layer)
        block(time.monotonic() + 0.3)
        readers[1].resume()
        del layer
    block(time.monotonic() + 2.3)
    for reader in readers:
        reader.send("end")
    taken_in = [reader.result() for reader in readers]
    assert all(taken_in)
    assert all(done == sorted(done) for done in taken_in)
    together = sorted(id for done in taken_in for id in done)
    assert together == list(range(together[0], together[-1] + 1))
    assert len(together) > 5000


async def test_who_is_excluded_on_another_machine(prefix: str) -> None:
    """An inbox, one of its channels, a normal channel; all, which is no reason to forget the group; and no envelope."""
    layer = layer_of(prefix)
    machine, (one, two) = machine_of(layer), [await layer.new_channel() for _ in range(2)]
    view = await begun(machine)
    for channel in (one, two, "normal"):
        await layer.group_add("g", channel)
    part, _, local = one.partition("!")
    cases = [{f"{part}!": [local]}, {"normal": [""]}, {f"{part}!": [local, two.partition("!")[2]], "normal": [""]}]
    for id, excluded in enumerate(cases, 11):
        payload = enclosed(b"%d" % id, fields_without(excluded))
        assert await put(machine, view, entry(id, "group", group="g", t=5, payload=payload)) is Taken.DONE
    for id, payload in enumerate((b"\xc1", b"\xc1\0\1\x90", b"\xc1\0\4\x81\xa1x\1"), 14):
        assert await put(machine, view, entry(id, "group", group="g", t=5, payload=payload)) is Taken.DONE
    assert await put(machine, view, entry(17, "group", group="g", t=5)) is Taken.DONE
    assert (await layer.statistics())["undecodable"] == 3
    for channel, expected in ((one, [12, 17]), (two, [11, 12, 17]), ("normal", [11, 17])):
        assert [int(opened(await taken(layer, channel))) for _ in expected] == expected
    check(layer)
