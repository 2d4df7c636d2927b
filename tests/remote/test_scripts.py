"""The scripts, run on a real server by a plain client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.scripts import Script
from hybrid_layer.remote.redis.wire.entries import parse
from hybrid_layer.remote.redis.wire.keys import Keys
from tests.support.servers import Server
from tests.support.waiting import block_to_outlive

Eval = Callable[..., Any]


@pytest.fixture(params=[0, 1], ids=["first server", "second server"])
def server(request: pytest.FixtureRequest, servers: list[Server]) -> Server:
    return servers[request.param]


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


@pytest.fixture
def run_script(server: Server) -> Eval:
    def run_script(script: Script, keys: list[str], *args: Any) -> Any:
        return server.command("EVAL", script.source, len(keys), *keys, *args)

    return run_script


def send(run_script: Eval, keys: Keys, payload: str, capacity: int = 3, expiry: int = 5000) -> Any:
    return run_script(scripts.SEND, [keys.queue("q"), keys.epoch], payload, "q", capacity, expiry)[:2]


def add(run_script: Eval, keys: Keys, member: str, life: int = 5000, how: str = "add") -> None:
    run_script(scripts.GROUP_ADD, [keys.group("g"), keys.epoch, keys.parts("g")], member, life, how, "g")


def discard(run_script: Eval, keys: Keys, member: str) -> int:
    removed: int = run_script(scripts.GROUP_DISCARD, [keys.group("g")], member, "g", keys.parts("g"))
    return removed


def group_send(run_script: Eval, keys: Keys, capacity: int, *capacities: str | int) -> Any:
    names = [keys.group("g"), keys.epoch]
    return run_script(scripts.GROUP_SEND, names, "p", 5000, capacity, keys.base, 0, "", *capacities)


def test_send_stores_up_to_the_capacity(server: Server, keys: Keys, run_script: Eval) -> None:
    assert [send(run_script, keys, f"p{n}") for n in range(4)] == [[0, 0], [0, 0], [0, 0], [1, 0]]
    assert server.command("LLEN", keys.queue("q")) == 3
    assert 3_600_000 < server.command("PTTL", keys.queue("q")) <= 3_610_000


def test_expired_heads_make_room_when_the_queue_is_full(server: Server, keys: Keys, run_script: Eval) -> None:
    for n in range(3):
        send(run_script, keys, f"p{n}", expiry=30 if n < 2 else 5000)
    block_to_outlive(0.03)
    assert [send(run_script, keys, "new") for _ in range(3)] == [[0, 1], [0, 1], [1, 0]]


def test_send_to_a_process_that_is_gone(server: Server, keys: Keys, run_script: Eval) -> None:
    names = [keys.inbox("a.B!"), keys.epoch, keys.alive("B")]
    run_script(scripts.RENEW, [keys.alive("A"), keys.notes("A"), keys.epoch], 5000, 0)
    assert run_script(scripts.SEND, names, "p", "a.B!1", 3, 5000)[0] == 2
    assert server.command("EXISTS", keys.inbox("a.B!")) == 0
    server.command("SET", keys.alive("B"), 1, "PX", 5000)
    assert run_script(scripts.SEND, names, "p", "a.B!1", 3, 5000)[0] == 0


def test_send_after_the_server_lost_its_data(server: Server, keys: Keys, run_script: Eval) -> None:
    """The alive key may be gone only because its process has not renewed it yet."""
    names = [keys.inbox("a.B!"), keys.epoch, keys.alive("B")]
    assert run_script(scripts.SEND, names, "p", "a.B!1", 3, 5000)[0] == 0
    assert server.command("LLEN", keys.inbox("a.B!")) == 1
    assert server.command("GET", keys.epoch).startswith(b"L")
    server.command("SET", keys.epoch, "L1600000000-1:0")
    assert run_script(scripts.SEND, names, "p", "a.B!1", 3, 5000)[0] == 2


def test_put_back_keeps_the_stamp_and_ignores_the_capacity(server: Server, keys: Keys, run_script: Eval) -> None:
    for n in range(3):
        send(run_script, keys, f"p{n}")
    raw = server.command("LPOP", keys.queue("q"))
    send(run_script, keys, "p3")
    epoch = raw.split(b"|")[2]
    assert run_script(scripts.PUT_BACK, [keys.queue("q"), keys.epoch], raw, epoch, 4000) == 1
    assert server.command("LINDEX", keys.queue("q"), 0) == raw
    assert server.command("LLEN", keys.queue("q")) == 4


def test_put_back_refuses_what_was_flushed(server: Server, keys: Keys, run_script: Eval) -> None:
    send(run_script, keys, "p")
    raw = server.command("LPOP", keys.queue("q"))
    epoch = raw.split(b"|")[2]
    run_script(scripts.FLUSH, [keys.epoch])
    assert run_script(scripts.PUT_BACK, [keys.queue("q"), keys.epoch], raw, epoch, 4000) == -1
    assert server.command("EXISTS", keys.queue("q")) == 0


def test_group_send_reaches_living_members_once_per_inbox(server: Server, keys: Keys, run_script: Eval) -> None:
    run_script(scripts.RENEW, [keys.alive("B"), keys.notes("B"), keys.epoch], 5000, 0)
    for member in ("a.B!1", "a.B!2", "a.DEAD!1", "normal"):
        add(run_script, keys, member)
    reply = group_send(run_script, keys, 2)
    assert reply[:4] == [3, 0, 1, 0]
    assert server.command("LLEN", keys.inbox("a.B!")) == 1
    assert b"|a.B!1,2|p" in server.command("LINDEX", keys.inbox("a.B!"), 0)
    assert server.command("LLEN", keys.queue("normal")) == 1
    assert server.command("ZCARD", keys.group("g")) == 3
    group_send(run_script, keys, 2)
    reply = group_send(run_script, keys, 2)
    assert reply[:4] == [0, 3, 0, 0]


def test_group_send_asks_for_capacities_that_it_lacks(server: Server, keys: Keys, run_script: Eval) -> None:
    for member in ("one", "two"):
        add(run_script, keys, member)
    assert group_send(run_script, keys, 0, "one", 1) == [-1, b"two"]
    assert server.command("EXISTS", keys.queue("one")) == 0
    assert group_send(run_script, keys, 0, "one", 1, "two", 2)[:4] == [2, 0, 0, 0]
    assert group_send(run_script, keys, 0, "one", 1, "two", 2)[:4] == [1, 1, 0, 0]


class Group:
    """A group large enough for its members to be kept by inbox, and a model of what must happen to it."""

    def __init__(self, server: Server, keys: Keys, run_script: Eval) -> None:
        self.server, self.keys, self.run_script = server, keys, run_script
        self.members = [f"a.{process}!{n}" for process in "BC" for n in range(20)]
        for process in "BC":
            server.command("SET", keys.alive(process), 1, "PX", 60_000)
        for member in self.members:
            add(run_script, keys, member, 90_000)
        self.send()

    def is_kept(self) -> bool:
        return bool(self.server.command("EXISTS", self.keys.parts("g")))

    def send(self) -> None:
        """A message reaches the members, whether they are kept by inbox or not."""
        for process in "BC":
            self.server.command("DEL", self.keys.inbox(f"a.{process}!"))
        reply = group_send(self.run_script, self.keys, 5)
        assert reply[:2] == [len(self.members), 0]
        raws = [
            raw for process in "BC" for raw in self.server.command("LRANGE", self.keys.inbox(f"a.{process}!"), 0, -1)
        ]
        entries = list(filter(None, map(parse, raws)))
        assert len(raws) == len(entries) == len({member[:4] for member in self.members})
        assert sorted(name for entry in entries for name in entry.names) == sorted(self.members)


@pytest.fixture
def group(server: Server, keys: Keys, run_script: Eval) -> Group:
    return Group(server, keys, run_script)


def test_many_members_are_kept_by_part_until_one_comes_or_goes(group: Group) -> None:
    assert group.is_kept()
    assert 0 < group.server.command("PTTL", group.keys.parts("g")) <= 60_000
    group.send()
    add(group.run_script, group.keys, group.members[0], 90_000)
    assert group.is_kept()
    group.members.append("a.B!new")
    add(group.run_script, group.keys, "a.B!new", 90_000)
    assert not group.is_kept()
    group.send()
    assert group.is_kept()
    assert discard(group.run_script, group.keys, group.members.pop(3)) == 1
    assert not group.is_kept()
    group.send()


@pytest.mark.parametrize("members", [[f"normal{n}" for n in range(40)], [f"a.B!{n}" for n in range(20)]])
def test_few_members_or_few_to_a_part_are_not_kept(
    server: Server, keys: Keys, run_script: Eval, members: list[str]
) -> None:
    server.command("SET", keys.alive("B"), 1, "PX", 5000)
    for member in members:
        add(run_script, keys, member)
    assert group_send(run_script, keys, 5)[:2] == [len(members), 0]
    assert not server.command("EXISTS", keys.parts("g"))


def test_members_by_part_end_with_the_first_membership(group: Group) -> None:
    add(group.run_script, group.keys, group.members[0], 300)
    assert not group.is_kept()
    group.send()
    assert 0 < group.server.command("PTTL", group.keys.parts("g")) <= 300
    block_to_outlive(0.3)
    del group.members[0]
    group.send()
    add(group.run_script, group.keys, "a.B!0", 60_000)
    group.members.append("a.B!0")
    group.send()


def test_members_by_part_that_a_flush_has_left_over_do_not_count(group: Group) -> None:
    """A message may be sent between the moments in which the flush meets the one key and the other."""
    kept = group.server.command("DUMP", group.keys.parts("g"))
    group.server.command("DEL", group.keys.parts("g"), group.keys.group("g"))
    group.run_script(scripts.FLUSH, [group.keys.epoch])
    group.server.command("RESTORE", group.keys.parts("g"), 60_000, kept)
    group.members.clear()
    group.send()
    group.members = [f"a.C!{n}" for n in range(40)]
    for member in group.members:
        add(group.run_script, group.keys, member, 90_000)
    group.server.command("DEL", group.keys.parts("g"))
    group.server.command("RESTORE", group.keys.parts("g"), 60_000, kept)
    group.send()
    assert group.is_kept()
    group.send()


def test_members_by_part_of_a_process_that_died(group: Group) -> None:
    add(group.run_script, group.keys, "a.C!", 90_000)  # whichever of them is read
    group.server.command("DEL", group.keys.alive("C"))
    group.server.command("SET", group.keys.epoch, "1600000000-1:0")
    assert group_send(group.run_script, group.keys, 5)[:3] == [20, 0, 21]
    assert not group.is_kept()
    group.server.command("SET", group.keys.alive("C"), 1, "PX", 60_000)
    group.members = [member for member in group.members if "C!" not in member]
    for n in range(20, 40):
        group.members.append(f"a.B!{n}")
        add(group.run_script, group.keys, f"a.B!{n}", 90_000)
    group.send()
    assert group.is_kept()


def test_a_group_of_a_great_many_members(server: Server, keys: Keys, run_script: Eval) -> None:
    """More inboxes than Lua takes as arguments at once."""
    server.command("SET", keys.epoch, "1600000000-1:0")
    parts = [f"a.P{number}!" for number in range(1_200)]
    server.command("MSET", *(x for part in parts for x in (keys.alive(part[2:-1]), 1)))
    server.command("ZADD", keys.group("g"), *(x for part in parts for n in range(16) for x in (9e15, f"{part}{n}")))
    for _ in range(2):
        assert group_send(run_script, keys, 5)[:3] == [19_200, 0, 0]
    assert server.command("HLEN", keys.parts("g")) == 1_201
    count_all = "local n = 0; for _, key in ipairs(KEYS) do n = n + redis.call('LLEN', key) end; return n"
    assert server.command("EVAL", count_all, len(parts), *map(keys.inbox, parts)) == 2_400


def test_renew_tells_what_is_missing_and_hands_over_notes(server: Server, keys: Keys, run_script: Eval) -> None:
    names = [keys.alive("B"), keys.notes("B"), keys.epoch]
    assert run_script(scripts.RENEW, names, 5000, 0)[0] == 1
    group = [keys.group("g"), keys.epoch, keys.parts("g"), keys.alive("B"), keys.notes("B")]
    run_script(scripts.GROUP_ADD, group, "a.B!1", 5000, "add", "g")
    run_script(scripts.GROUP_DISCARD, [keys.group("g"), keys.notes("B")], "a.B!1", "g", keys.parts("g"))
    gone, _, _, _, added, discarded = run_script(scripts.RENEW, names, 5000, 0)
    assert gone == 0
    assert added.startswith(b"+|g|a.B!1|")
    assert discarded == b"-|g|a.B!1"
    assert len(run_script(scripts.RENEW, names, 5000, 0)) == 4


def test_a_restored_membership_does_not_renew_one_that_is_there(server: Server, keys: Keys, run_script: Eval) -> None:
    add(run_script, keys, "m", 1000)
    before = server.command("ZSCORE", keys.group("g"), "m")
    add(run_script, keys, "m", 90_000, "restore")
    assert server.command("ZSCORE", keys.group("g"), "m") == before
    add(run_script, keys, "m", 90_000)
    assert float(server.command("ZSCORE", keys.group("g"), "m")) > float(before)


def test_wake_is_there_once_however_often_it_is_asked_for(server: Server, keys: Keys, run_script: Eval) -> None:
    for _ in range(3):
        run_script(scripts.WAKE, [keys.wake("r")], 5000)
    assert server.command("LLEN", keys.wake("r")) == 1
    assert server.command("PTTL", keys.wake("r")) > 0
