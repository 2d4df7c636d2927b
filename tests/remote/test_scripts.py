"""The scripts, run on a real server by a plain client."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from hybrid_layer.remote import scripts
from hybrid_layer.remote.keys import Keys
from hybrid_layer.remote.scripts import Script
from tests.servers import Server

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


def test_send_stores_up_to_the_capacity(server: Server, keys: Keys, run_script: Eval) -> None:
    assert [send(run_script, keys, f"p{n}") for n in range(4)] == [[0, 0], [0, 0], [0, 0], [1, 0]]
    assert server.command("LLEN", keys.queue("q")) == 3
    assert 5000 < server.command("PTTL", keys.queue("q")) <= 11_000


def test_expired_heads_make_room_when_the_queue_is_full(server: Server, keys: Keys, run_script: Eval) -> None:
    for n in range(3):
        send(run_script, keys, f"p{n}", expiry=30 if n < 2 else 5000)
    time.sleep(0.05)
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
    assert run_script(scripts.PUT_BACK, [keys.queue("q"), keys.epoch], raw, epoch) == 1
    assert server.command("LINDEX", keys.queue("q"), 0) == raw
    assert server.command("LLEN", keys.queue("q")) == 4


def test_put_back_refuses_what_expired_or_was_flushed(server: Server, keys: Keys, run_script: Eval) -> None:
    send(run_script, keys, "p", expiry=20)
    raw = server.command("LPOP", keys.queue("q"))
    epoch = raw.split(b"|")[2]
    time.sleep(0.04)
    assert run_script(scripts.PUT_BACK, [keys.queue("q"), keys.epoch], raw, epoch) == 0
    send(run_script, keys, "p")
    raw = server.command("LPOP", keys.queue("q"))
    run_script(scripts.FLUSH, [keys.epoch])
    assert run_script(scripts.PUT_BACK, [keys.queue("q"), keys.epoch], raw, epoch) == -1
    assert server.command("EXISTS", keys.queue("q")) == 0


def test_group_send_reaches_living_members_once_per_inbox(server: Server, keys: Keys, run_script: Eval) -> None:
    run_script(scripts.RENEW, [keys.alive("B"), keys.notes("B"), keys.epoch], 5000, 0)
    for member in ("a.B!1", "a.B!2", "a.DEAD!1", "normal"):
        run_script(scripts.GROUP_ADD, [keys.group("g"), keys.epoch], member, 5000, "add", "g")
    reply = run_script(scripts.GROUP_SEND, [keys.group("g"), keys.epoch], "p", 5000, 2, keys.base)
    assert reply[:4] == [3, 0, 1, 0]
    assert server.command("LLEN", keys.inbox("a.B!")) == 1
    assert b"|a.B!1,a.B!2|p" in server.command("LINDEX", keys.inbox("a.B!"), 0)
    assert server.command("LLEN", keys.queue("normal")) == 1
    assert server.command("ZCARD", keys.group("g")) == 3
    run_script(scripts.GROUP_SEND, [keys.group("g"), keys.epoch], "p", 5000, 2, keys.base)
    reply = run_script(scripts.GROUP_SEND, [keys.group("g"), keys.epoch], "p", 5000, 2, keys.base)
    assert reply[:4] == [0, 3, 0, 0]


def test_group_send_asks_for_capacities_that_it_lacks(server: Server, keys: Keys, run_script: Eval) -> None:
    for member in ("one", "two"):
        run_script(scripts.GROUP_ADD, [keys.group("g"), keys.epoch], member, 5000, "add", "g")
    ask = [keys.group("g"), keys.epoch]
    assert run_script(scripts.GROUP_SEND, ask, "p", 5000, 0, keys.base, "one", 1) == [-1, b"two"]
    assert server.command("EXISTS", keys.queue("one")) == 0
    assert run_script(scripts.GROUP_SEND, ask, "p", 5000, 0, keys.base, "one", 1, "two", 2)[:4] == [2, 0, 0, 0]
    assert run_script(scripts.GROUP_SEND, ask, "p", 5000, 0, keys.base, "one", 1, "two", 2)[:4] == [1, 1, 0, 0]


def test_renew_tells_what_is_missing_and_hands_over_notes(server: Server, keys: Keys, run_script: Eval) -> None:
    names = [keys.alive("B"), keys.notes("B"), keys.epoch]
    assert run_script(scripts.RENEW, names, 5000, 0)[0] == 1
    run_script(scripts.GROUP_ADD, [keys.group("g"), keys.epoch, keys.notes("B")], "a.B!1", 5000, "add", "g")
    run_script(scripts.GROUP_DISCARD, [keys.group("g"), keys.notes("B")], "a.B!1", "g")
    gone, _, _, _, added, discarded = run_script(scripts.RENEW, names, 5000, 0)
    assert gone == 0
    assert added.startswith(b"+|g|a.B!1|")
    assert discarded == b"-|g|a.B!1"
    assert len(run_script(scripts.RENEW, names, 5000, 0)) == 4


def test_a_restored_membership_does_not_renew_one_that_is_there(server: Server, keys: Keys, run_script: Eval) -> None:
    add = [keys.group("g"), keys.epoch]
    run_script(scripts.GROUP_ADD, add, "m", 1000, "add", "g")
    before = server.command("ZSCORE", keys.group("g"), "m")
    run_script(scripts.GROUP_ADD, add, "m", 90_000, "restore", "g")
    assert server.command("ZSCORE", keys.group("g"), "m") == before
    run_script(scripts.GROUP_ADD, add, "m", 90_000, "add", "g")
    assert float(server.command("ZSCORE", keys.group("g"), "m")) > float(before)


def test_wake_is_there_once_however_often_it_is_asked_for(server: Server, keys: Keys, run_script: Eval) -> None:
    for _ in range(3):
        run_script(scripts.WAKE, [keys.wake("r")], 5000)
    assert server.command("LLEN", keys.wake("r")) == 1
    assert server.command("PTTL", keys.wake("r")) > 0
