"""Shards, keys, entries and epochs: the tests that need no server."""

from __future__ import annotations

from collections import Counter

import pytest

from hybrid_layer.remote.delivery import epoch as epochs
from hybrid_layer.remote.delivery.epoch import Epoch
from hybrid_layer.remote.delivery.replies import Entry
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.wire.entries import parse, published_entry
from hybrid_layer.remote.redis.wire.keys import Keys
from tests.support.probe import ended_incarnations

pytestmark = pytest.mark.any_server


def test_all_channels_of_a_process_are_on_one_shard() -> None:
    names = [f"{prefix}.ABCDEFGHIJ!{n}" for prefix in ("specific", "http.response") for n in range(50)]
    assert len({shard_for(name, 7) for name in [*names, "specific.ABCDEFGHIJ!"]}) == 1


def test_all_channels_of_a_machine_are_on_one_shard() -> None:
    names = [f"specific.ABCDEFGHIJ-{process}!1" for process in ("PROCESSAAA", "PROCESSBBB")]
    assert len({shard_for(name, 7) for name in [*names, "@ABCDEFGHIJ!"]}) == 1
    others = [f"specific.ABCDEFGHIJ-{process}!1" for process in ("processaaa", "PROCESSAA", "PROCESSAA1", "P")]
    assert len({shard_for(name, 50) for name in others}) > 1, "any other name is by its process"


def test_names_spread_over_the_shards() -> None:
    counts = Counter(shard_for(f"channel.{n}", 4) for n in range(4000))
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 850


def test_another_shard_takes_over_only_its_share() -> None:
    names = [f"channel.{n}" for n in range(4000)]
    moved = [name for name in names if shard_for(name, 4) != shard_for(name, 5)]
    assert all(shard_for(name, 5) == 4 for name in moved)
    assert 600 < len(moved) < 1000


def test_the_place_of_a_name_never_changes_between_releases() -> None:
    assert [shard_for(name, 5) for name in ("jobs", "thumbnails", "a.B!1", "a.C!1")] == [1, 1, 4, 3]


def test_keys_begin_with_the_prefix_and_a_bar() -> None:
    keys = Keys("asgi:staging")
    made = [
        keys.queue("jobs"),
        keys.inbox("a.B!"),
        keys.group("g"),
        keys.alive("B"),
        keys.notes("B"),
        keys.wake("x"),
        keys.epoch,
    ]
    assert len(set(made)) == len(made)
    assert all(key.startswith("asgi:staging|1|") for key in made)
    assert [keys.is_data(key) for key in made] == [True, True, True, False, False, False, False]
    assert keys.addressee_of_alive(keys.alive("B")) == "B"
    assert keys.addressee_of_alive(keys.notes("B")) is None
    assert [keys.is_stream(key) for key in (keys.inbox("@M!"), Keys("asgi", "3").inbox("@M!"))] == [True, True]
    assert not any(map(keys.is_stream, [*made, keys.alive("@M"), "asgi:staging|1|queue|@M!"]))
    assert keys.scan_pattern() == "asgi:staging|*"


@pytest.mark.parametrize("raw", [b"", b"1|2|3", b"2|1|e|name|payload", b"1|x|e|name|payload", b"1|1|e|\xff|p"])
def test_unknown_entries(raw: bytes) -> None:
    assert parse(raw) is None


def test_entry() -> None:
    entry = parse(b"1|1700000000000|17-5:2|a.B!1,2|pay|load")
    assert entry is not None
    assert (entry.stamp_ms, entry.epoch, list(entry.names)) == (1700000000000, b"17-5:2", ["a.B!1", "a.B!2"])
    assert entry.payload == b"pay|load"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"", [""]),
        (b"normal", ["normal"]),
        (b"a.B!1", ["a.B!1"]),
        (b"a.B!", ["a.B!"]),
        (b"a.B!,", ["a.B!", "a.B!"]),
        (b"a.B!jobs,mails.all", ["a.B!jobs", "a.B!mails.all"]),
    ],
)
def test_names_of_an_entry(text: bytes, names: list[str]) -> None:
    entry = parse(b"1|1||" + text + b"|")
    assert entry is not None
    assert list(entry.names) == names


def test_published_entry_reads_as_one_of_now() -> None:
    raw = published_entry(1_700_000_000_000, "a.B!1", b"pay|load")
    entry = parse(raw)
    assert entry == Entry(1_700_000_000_000, b"", ["a.B!1"], b"pay|load", raw)
    epoch = Epoch(set())
    epoch.meet(b"a:3")
    assert epoch.meet(entry.epoch)
    assert epoch.flushes_met == 0


def test_epoch_of_another_database_is_not_heard() -> None:
    epoch = Epoch(set())
    epoch.meet(b"a:3")
    assert not epoch.announced(b"b:9")
    assert not epoch.announced(b"a:x")
    assert epoch.flushes_met == 0
    before = epoch.generation
    assert epoch.announced(b"a:3")
    assert epoch.flushes_met == 0
    assert epoch.generation != before, "messages that came before the announcement may be older than the flush"
    assert epoch.announced(b"a:4")
    assert epoch.flushes_met == 1


def test_announcement_of_a_flush_that_is_known_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(epochs, "monotonic", lambda: now)
    epoch = Epoch(set())
    epoch.meet(b"a:3")
    assert not epoch.is_awaited(), "the first contact is no news of a flush"
    epoch.meet(b"a:5")
    assert epoch.is_awaited()
    epoch.announced(b"a:4")
    epoch.announced(b"b:9")
    assert epoch.is_awaited()
    epoch.announced(b"a:5")
    assert not epoch.is_awaited()
    epoch.meet(b"a:6")
    epoch.await_no_more()
    assert not epoch.is_awaited()
    epoch.meet(b"a:7")
    now += 2.1
    assert not epoch.is_awaited(), "somebody may have flushed who must not publish"


def test_announcement_of_ones_own_flush_is_awaited_once() -> None:
    epoch = Epoch(set())
    epoch.meet(b"a:3")
    epoch.flushed(b"b:1")  # of a server that was emptied meanwhile
    assert epoch.is_awaited()
    assert epoch.announced(b"b:1")
    assert not epoch.is_awaited()
    epoch.announced(b"b:2")
    epoch.announced(b"z:7")
    epoch.flushed(b"b:2")
    assert not epoch.is_awaited()
    epoch.announced(b"c:1")
    epoch.flushed(b"c:1")
    assert not epoch.is_awaited()


def test_messages_of_an_incarnation_that_is_over() -> None:
    epoch = Epoch(set())
    assert epoch.admits(b"a:0")
    epoch.meet(b"a:0")
    assert epoch.admits(b"a:1")
    assert not epoch.admits(b"a:0")
    epoch.meet(b"b:0")  # the server lost its data: messages under way stay valid
    assert epoch.admits(b"a:1")
    assert epoch.admits(b"c:0"), "the next one, of which a message tells first"
    assert epoch.flushes_met == 1
    assert epoch.admits(b"b:0")
    assert epoch.admits(b"c:1")
    assert not epoch.admits(b"b:0"), "there was a flush since"
    epoch.flushed(b"d:1")
    assert not epoch.admits(b"a:1")
    assert not epoch.admits(b"c:1")
    assert epoch.admits(b"d:1")
    assert not epoch.admits(b"d:0")
    assert epoch.admits(b""), "published without one"
    epoch.meet(b"b:0")  # restored from a copy
    assert epoch.admits(b"b:0")


def test_a_server_that_tells_of_fewer_flushes_has_lost_some() -> None:
    epoch = Epoch(set())
    epoch.meet(b"a:3")
    known = epoch.known
    epoch.meet(b"a:4")
    epoch.answered(b"a:3", known)
    assert not epoch.meet(b"a:3"), "the answer was on its way when there was a flush"
    epoch.answered(b"a:2", epoch.known)
    assert epoch.flushes_met == 1
    assert epoch.admits(b"a:2")
    assert epoch.admits(b"a:3")
    assert epoch.flushes_met == 2, "this is another flush"
    epoch.answered(b"b:0", epoch.known)
    assert epoch.known == (b"b", 0)
    epoch.answered(b"", epoch.known)
    assert epoch.known == (b"b", 0)


def test_incarnations_that_are_over_are_forgotten_in_time() -> None:
    epoch = Epoch(set())
    for n in range(1000):
        epoch.meet(b"%d:0" % n)
    assert ended_incarnations(epoch) < 100


def test_epoch_moves_with_a_flush_only() -> None:
    epoch = Epoch(set())
    assert epoch.meet(b"a:0")
    assert epoch.flushes_met == 0
    assert epoch.meet(b"a:1")
    assert epoch.flushes_met == 1
    assert not epoch.meet(b"a:0")
    assert epoch.meet(b"b:0")  # the server lost its data
    assert epoch.flushes_met == 1
    assert epoch.meet(b"b:2")
    assert epoch.flushes_met == 2


def test_scripts_have_a_header_that_says_everything() -> None:
    for script in scripts.ALL:
        for word in ("-- KEYS", "-- ARGV", "-- Returns"):
            assert word in script.source, (script.name, word)
    assert len(scripts.BY_SHA) == len(scripts.ALL)
