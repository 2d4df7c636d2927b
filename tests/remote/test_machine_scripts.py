"""The scripts for machines, run on a real server by a plain client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.scripts import Script
from hybrid_layer.remote.redis.wire.keys import Keys
from tests.support.servers import NewServer, Server
from tests.support.waiting import block_to_outlive, block_until

M, OTHER = "MACHINEAAA", "MACHINEBBB"
CHANNEL = f"specific.{M}-PROCESSAAA!1"
FORGOTTEN_FAR = 5_000_000_000_000


class Site:
    """One server, and the scripts as processes run them there."""

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.command = server.command
        self.keys = Keys(prefix)
        self.group = self.keys.group("g")

    def run(self, script: Script, keys: Sequence[str], *args: Any) -> Any:
        reply = self.command("EVAL", script.source, len(keys), *keys, *args)
        assert script.shape(reply) or reply == 0, (script.name, reply)
        return reply

    def stream(self, machine: str = M) -> str:
        return self.keys.inbox(f"@{machine}!")

    def alive(self, machine: str = M) -> str:
        return self.keys.alive(f"@{machine}")

    def renew(
        self, seen: int = 0, run: bytes = b"", new: int = 1, *, life: int = 5000, inboxes: int = 1, machine: str = M
    ) -> tuple[int, bytes, bytes]:
        """The registration, the run id and the last id."""
        places = [self.alive(machine), self.stream(machine), self.keys.epoch, self.keys.alive("")]
        reply = self.run(scripts.RENEW_MACHINE, places, life, "1", "", seen, run, new, inboxes)
        return int(reply[0]), reply[1], reply[2]

    def register(self, life: int = 5000, forgotten: int = 0, machine: str = M) -> int:
        """T."""
        places = [self.group, self.keys.epoch, self.keys.parts("g")]
        t, _, _ = self.run(scripts.REGISTER, places, f"@{machine}!", life, forgotten)
        assert float(self.command("ZSCORE", self.group, f"@{machine}!")) == t
        return int(t)

    def forget(self, t: int, machine: str = M) -> int:
        return int(self.run(scripts.FORGET, [self.group], f"@{machine}!", t, self.keys.parts("g")))

    def send(self, payload: str, capacity: int = 3, expiry: int = 5000, known: str = "") -> list[int]:
        places = [self.stream(), self.keys.epoch, self.alive()]
        found: list[int] = self.run(scripts.SEND, places, payload, CHANNEL, capacity, expiry, known)[:2]
        return found

    def fill(self, number: int, payload: str, expiry: int = 5000) -> None:
        """Send so many messages, in two commands, as they must not expire meanwhile."""
        assert self.send(payload, expiry=expiry) == [0, 0]
        script = """
            local message = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][2]
            for _ = 2, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(message)) end
        """
        self.command("EVAL", script, 1, self.stream(), number)

    def group_send(self, payload: str = "p", capacity: int = 3, skip: str = "", *known: str | int) -> Any:
        args = (payload, 5000, capacity, self.keys.base, 0, skip, *known)
        return self.run(scripts.GROUP_SEND, [self.group, self.keys.epoch], *args)

    def group_publish(self, payload: str = "p", skip: str = "") -> Any:
        args = (payload, 5000, 3, self.keys.base, "g", 0, skip, "")
        return self.run(scripts.GROUP_PUBLISH, [self.group, self.keys.epoch], *args)

    def add(self, life: int = 5000, first: str = "") -> int:
        """As another process, for a channel of the machine."""
        places = [self.group, self.keys.epoch, self.keys.parts("g"), self.alive(), self.stream()]
        args = (CHANNEL, life, 2 * life, "g", first, f"@{M}!", 3)
        return int(self.run(scripts.MACHINE_ADD, places, *args)[0])

    def note(self, note: str) -> int:
        return int(self.run(scripts.MACHINE_NOTE, [self.stream(), self.alive(), self.keys.epoch], note, 3))

    def texts(self, machine: str = M) -> list[bytes]:
        """The entries of the stream: each has one field."""
        found = self.command("XRANGE", self.stream(machine), "-", "+")
        return [dict(fields)[b"e"] if isinstance(fields, dict) else fields[1] for _, fields in found]

    def payloads(self, machine: str = M) -> list[bytes]:
        return [text.rpartition(b"|")[2] for text in self.texts(machine)]

    def last_id(self) -> bytes:
        found: bytes = self.command("XINFO", "STREAM", self.stream())[b"last-generated-id"]
        return found

    def members(self) -> list[bytes]:
        return list(self.command("ZRANGE", self.group, 0, -1))

    def now(self) -> int:
        seconds, micros = self.command("TIME")
        return int(seconds * 1000 + micros // 1000)


@pytest.fixture
def site(server: Server, prefix: str) -> Site:
    return Site(server, prefix)


# Registrations


def test_each_registration_has_a_higher_t(site: Site) -> None:
    now = site.now()
    first = site.register(5000)
    assert now + 5000 <= first < now + 6000
    assert site.register(1000) == first + 1, "it is not shortened"
    assert site.register(60_000) >= now + 60_000
    assert site.members() == [b"@MACHINEAAA!"]
    assert 3_650_000 < site.command("PTTL", site.group) < 3_670_000


def test_a_registration_is_above_what_was_forgotten(site: Site) -> None:
    assert site.register(5000, FORGOTTEN_FAR) == FORGOTTEN_FAR + 1
    assert site.forget(FORGOTTEN_FAR + 1) == 1
    assert site.register(5000) < FORGOTTEN_FAR, "only the machine knows what it forgot"
    assert site.register(5000, FORGOTTEN_FAR + 1) == FORGOTTEN_FAR + 2


def test_forget_ends_only_the_registration_that_it_names(site: Site) -> None:
    first = site.register()
    second = site.register()
    for wrong in (first, second + 1, 0, 10**15):
        assert site.forget(wrong) == 0
    assert site.members() == [b"@MACHINEAAA!"]
    assert site.forget(second, OTHER) == 0
    assert site.forget(second) == 1
    assert site.forget(second) == 0
    assert site.members() == []


@pytest.mark.parametrize("score", ["1e300", "inf", "-inf", "-5", "100000000000000000", "1.5"])
def test_a_strangers_score_does_no_harm(site: Site, score: str) -> None:
    site.renew()
    site.command("ZADD", site.group, score, f"@{M}!")
    if not score.startswith("-") and score != "1.5":
        assert site.group_send()[:3] == [1, 0, 0]
        assert b"|=g,0|p" in site.texts()[0]
    now = site.now()
    assert now + 5000 <= site.register(5000) < now + 6000
    assert site.group_send()[:3] == [1, 0, 0]


@pytest.mark.parametrize("forgotten", [10**14, 10**15, 2**63 - 1])
def test_what_a_stranger_made_a_machine_forget_does_no_harm(site: Site, forgotten: int) -> None:
    now = site.now()
    first = site.register(5000, forgotten)
    assert now + 5000 <= first < now + 6000
    assert first < site.register(5000, forgotten) < now + 6000


# Renewals


def test_a_renewal_prolongs_what_it_has_seen(site: Site) -> None:
    registration, run, last = site.renew(0, b"", 2**64 - 1)
    assert registration == 2**64 - 1
    assert last == b"0-0"
    assert run == site.command("INFO", "server")["run_id"][:16].encode()
    assert site.renew(registration, run, 5, inboxes=7)[0] == registration
    value = site.command("GET", site.alive())
    until, _, rest = value.partition(b".")
    assert site.now() < int(until) <= site.now() + 5000
    assert rest == b"5000|18446744073709551615|7"
    assert 3_600_000 < site.command("PTTL", site.alive()) <= 3_605_000


def test_a_renewal_that_has_seen_something_else_sets_another_registration(site: Site) -> None:
    registration, run, _ = site.renew(new=11)
    for seen, its_run in ((12, run), (0, run), (11, b"0" * 16), (11, b"")):
        wanted = registration + 1
        found, run_now, _ = site.renew(seen, its_run, wanted)
        assert (found, run_now) == (wanted, run), (seen, its_run)
        registration, seen = found, found
    assert site.renew(registration, run, 5)[0] == registration


def test_a_key_that_is_gone_or_was_not_renewed_in_time(site: Site) -> None:
    registration, run, _ = site.renew(new=11, life=1000)
    site.command("DEL", site.alive())
    assert site.renew(registration, run, 12, life=1000)[0] == 12
    block_to_outlive(1)
    assert site.command("EXISTS", site.alive()), "the key outlives the life"
    assert site.renew(12, run, 13)[0] == 13


def test_a_registration_of_0_is_never_prolonged(site: Site) -> None:
    _, run, _ = site.renew(new=11)
    site.command("SET", site.alive(), f"{site.now() + 4000}.5000|0|1", "PX", 5000)
    assert site.renew(0, run, 12)[0] == 12


@pytest.mark.parametrize(
    "value", ["", "x", "1", "9" * 400, "1.5|1", "1.1|11", "1.1|11|x", "|11|1", "9999999999999.1|11"]
)
def test_a_strangers_alive_key(site: Site, value: str) -> None:
    """It counts as that of a living machine, as for processes, and the next renewal replaces it."""
    _, run, _ = site.renew(new=11)
    site.command("SET", site.alive(), value, "PX", 5000)
    assert site.send("x")[0] in (0, 2)
    assert site.renew(11, run, 12)[0] == 12
    assert site.send("y") == [0, 0]


def test_a_strangers_type_at_the_alive_key(site: Site) -> None:
    site.command("RPUSH", site.alive(), "x")
    assert site.send("x") == [0, 0]
    assert site.renew(11, b"", 12)[0] == 12


def test_another_run_id_after_a_restart(new_server: NewServer, prefix: str) -> None:
    server = new_server()
    site = Site(server, prefix)
    registration, run, _ = site.renew(new=11)
    kept = server.command("GET", site.alive())
    server.restart()
    assert site.renew(registration, run, 12)[0] == 12
    server.command("SET", site.alive(), kept, "PX", 5000)  # as a replica may have had it
    found, run_now, _ = site.renew(registration, run, 13)
    assert found == 13
    assert run_now != run


def test_another_run_id_after_a_failover(new_server: NewServer, prefix: str) -> None:
    """The replica has the alive key, but perhaps not the last registrations. It goes on with the ids."""
    primary = new_server()
    replica = new_server(replicaof=[primary.host, primary.port])
    site, there = Site(primary, prefix), Site(replica, prefix)
    registration, run, _ = site.renew(new=11)
    t = site.register()
    site.group_send("before")
    block_until(lambda: len(there.texts()) == 1, "the entry is replicated")
    last = site.last_id()
    primary.kill()
    replica.command("REPLICAOF", "NO", "ONE")
    assert there.alive() in map(bytes.decode, replica.command("KEYS", f"{prefix}|*"))
    found, run_now, last_now = there.renew(registration, run, 12)
    assert (found, last_now) == (12, last)
    assert run_now != run
    assert there.register() > t
    there.send("after")
    assert there.last_id() > last


def test_a_server_that_does_not_tell_its_run_id(new_server: NewServer, prefix: str) -> None:
    server = new_server()
    site = Site(server, prefix)
    server.command("ACL", "SETUSER", "default", "-info")
    registration, run, _ = site.renew(new=11)
    assert (registration, run) == (11, b"")
    assert site.renew(11, b"", 12)[0] == 11


def test_a_renewal_keeps_an_empty_stream_and_its_last_id(site: Site) -> None:
    site.renew()
    site.send("x")
    last = site.last_id()
    site.command("XTRIM", site.stream(), "MAXLEN", 0)
    site.command("PEXPIRE", site.stream(), 5000)
    assert site.renew(1, site.renew()[1])[2] == last
    assert 3_604_000 < site.command("PTTL", site.stream()) <= 3_605_000
    site.send("y", expiry=10_000_000)
    left = site.command("PTTL", site.stream())
    site.renew()
    assert site.command("PTTL", site.stream()) > left - 5000, "it is never shortened"


def test_a_renewal_where_the_streams_key_is_lost_or_a_strangers(site: Site) -> None:
    site.renew()
    site.send("x")
    site.command("DEL", site.stream())
    assert site.renew()[2] == b"0-0"
    assert not site.command("EXISTS", site.stream())
    site.command("RPUSH", site.stream(), "x")
    assert site.renew()[2] == b"0-0"


def test_a_renewal_notes_that_the_clock_runs_evenly(site: Site) -> None:
    """As those of processes do: in doubt, senders ask for that."""
    places = [site.alive(), site.stream(), site.keys.epoch, site.keys.alive("")]
    now = site.now()
    args = (5000, "0", f"{now - 10_000}|0|{now}", 0, "", 1, 1)
    site.run(scripts.RENEW_MACHINE, places, *args)
    since, _, last = site.command("GET", site.keys.alive("")).partition(b"|")
    assert int(since) == now - 10_000
    assert now <= int(last) < now + 2000


# Messages


def test_messages_are_entries_of_one_field(site: Site) -> None:
    site.renew()
    t = site.register()
    assert site.send("direct") == [0, 0]
    assert site.group_send("group")[:3] == [1, 0, 0]
    direct, group = site.texts()
    epoch = site.command("GET", site.keys.epoch)
    assert direct.split(b"|")[2:] == [epoch, CHANNEL.encode(), b"direct"]
    assert group.split(b"|")[2:] == [epoch, b"=g,%d" % t, b"group"]
    assert direct.split(b"|")[0] == b"1"
    assert 3_600_000 < site.command("PTTL", site.stream()) <= 3_610_000


def test_there_is_room_for_each_inbox_and_for_what_is_not_trimmed(site: Site) -> None:
    site.renew(inboxes=5, life=60_000)
    site.register(60_000)
    room = 3 * 5 + 64
    site.fill(room - 2, "p")
    assert site.send("last but one") == [0, 0]
    assert site.group_send()[:2] == [1, 0]
    assert site.send("more") == [1, 0]
    assert site.group_send()[:2] == [0, 1]
    assert len(site.texts()) == room
    site.renew(inboxes=6)
    assert site.send("more") == [0, 0]


def test_expired_heads_make_room_when_the_stream_is_full(site: Site) -> None:
    site.renew(inboxes=1)
    site.fill(2, "early", expiry=30)
    site.fill(65, "late")
    block_to_outlive(0.03)
    assert [site.send("new") for _ in range(3)] == [[0, 1], [0, 1], [1, 0]]
    assert site.payloads()[0] == b"late"


@pytest.mark.parametrize("text", ["", "x", "1|", "1|x|", "1|-5|", f"1|{'9' * 400}|", "\xff"])
def test_a_strangers_entry_at_the_head_is_not_dropped(site: Site, text: str) -> None:
    site.renew()
    script = "for n = 1, 67 do redis.call('XADD', KEYS[1], '*', 'e', ARGV[1], 'f', ARGV[1]) end"
    site.command("EVAL", script, 1, site.stream(), text)
    assert site.send("x") == [1, 0]


def test_notes_are_stored_in_a_full_stream(site: Site) -> None:
    site.renew()
    site.fill(67, "p", expiry=2000)
    assert site.send("full") == [1, 0]
    assert site.add() == 1
    assert site.note(f"-|g|{CHANNEL}") == 1
    assert len(site.texts()) == 69
    block_to_outlive(2)
    assert site.send("new") == [0, 3]


def test_notes_that_nobody_reads_come_to_an_end(site: Site) -> None:
    site.renew()
    script = "for n = 1, 5067 do redis.call('XADD', KEYS[1], '*', 'e', '-|g|x') end"
    site.command("EVAL", script, 1, site.stream())
    assert site.note("-|g|x") == 0
    assert site.add() == 0
    assert site.members() == []


def test_nothing_is_stored_for_an_unknown_machine(site: Site) -> None:
    site.renew(machine=OTHER)
    site.command("SET", site.keys.epoch, "1600000000-1:0")
    assert site.send("x") == [2, 0]
    assert site.add() == 0
    assert site.note(f"-|g|{CHANNEL}") == 0
    assert not site.command("EXISTS", site.stream(), site.group)


def test_a_machine_that_has_not_renewed_since_the_server_lost_its_data(site: Site) -> None:
    site.command("SET", site.keys.epoch, f"L{site.now() // 1000}-1:0")
    site.register()
    assert site.send("x") == [0, 0]
    assert site.group_send()[:3] == [1, 0, 0]
    assert site.note(f"-|g|{CHANNEL}") == 1
    assert site.add() == 1
    assert len(site.texts()) == 4


def test_a_machine_is_one_member_and_a_dead_one_is_removed(site: Site) -> None:
    site.renew()
    site.renew(machine=OTHER)
    site.register()
    site.register(machine=OTHER)
    site.command("DEL", site.alive(OTHER))
    site.command("SET", site.keys.epoch, "1600000000-1:0")
    assert site.group_send()[:3] == [1, 0, 1]
    assert site.members() == [b"@MACHINEAAA!"]


def test_the_senders_machine_is_skipped(site: Site) -> None:
    for machine in (M, OTHER):
        site.renew(machine=machine)
        site.register(machine=machine)
    assert site.group_send(skip=f"@{M}!")[:3] == [1, 0, 0]
    assert (site.texts(), len(site.texts(OTHER))) == ([], 1)
    site.command("DEL", site.alive())
    assert site.group_send(skip=f"@{M}!")[:3] == [1, 0, 0], "it does not count as dead either"
    assert len(site.members()) == 2


def test_capacities_that_differ(site: Site) -> None:
    site.renew()
    site.register()
    assert site.group_send("p", 0) == [-1, b"@MACHINEAAA!"]
    assert site.group_send("p", 0, "", "@MACHINEAAA!", 3)[:3] == [1, 0, 0]


def test_a_strangers_member_with_a_machines_name(site: Site) -> None:
    site.renew()
    site.command("ZADD", site.group, site.now() + 5000, f"@{M}!jobs")
    assert site.group_send()[:3] == [0, 0, 1]
    assert site.members() == []
    assert site.texts() == []


def test_by_pubsub(site: Site) -> None:
    for machine in (M, OTHER):
        site.renew(machine=machine)
        site.register(machine=machine)
    assert site.group_publish()[:3] == [2, 0, 0]
    assert site.group_publish(skip=f"@{OTHER}!")[:3] == [1, 0, 0]
    assert len(site.texts()) == 2
    assert len(site.texts(OTHER)) == 1


@pytest.fixture
def kept(site: Site) -> Site:
    """A group with so many members that they are kept by part, a machine among them."""
    site.renew(life=60_000)
    site.command("SET", site.keys.alive("B"), 1, "PX", 60_000)
    site.command("ZADD", site.group, *(x for n in range(100) for x in (site.now() + 90_000, f"a.B!{n}")))
    site.register(90_000)
    assert site.group_send(capacity=1000)[:2] == [101, 0]
    assert site.command("EXISTS", site.keys.parts("g"))
    return site


def test_members_by_part_with_a_machine(kept: Site) -> None:
    t = kept.register(90_000)
    assert kept.group_send(capacity=1000)[:2] == [101, 0]
    assert b"|=g,%d|p" % t in kept.texts()[-1]
    kept.register(90_000, machine=OTHER)
    assert not kept.command("EXISTS", kept.keys.parts("g")), "there is another member"
    kept.renew(machine=OTHER)
    for _ in range(2):
        assert kept.group_send(capacity=1000, skip=f"@{M}!")[:2] == [101, 0]
    assert kept.command("EXISTS", kept.keys.parts("g"))
    assert kept.group_send(capacity=1000)[:2] == [102, 0], "who was skipped is kept as well"
    assert kept.forget(t) == 1
    assert not kept.command("EXISTS", kept.keys.parts("g"))
    assert kept.group_send(capacity=1000)[:2] == [101, 0]


# What others do


def test_another_process_adds_and_discards_a_channel(site: Site) -> None:
    site.renew()
    now = site.now()
    assert site.add(life=5000) == 1
    (score,) = [float(site.command("ZSCORE", site.group, member)) for member in site.members()]
    assert now + 10_000 <= score < now + 11_000
    assert site.group_send("after")[:3] == [1, 0, 0]
    assert site.note(f"-|g|{CHANNEL}") == 1
    added, message, discarded = site.texts()
    kind, group, channel, deadline, epoch = added.split(b"|")
    assert (kind, group, channel, epoch) == (b"+", b"g", CHANNEL.encode(), site.command("GET", site.keys.epoch))
    assert now + 5000 <= int(deadline) < now + 6000
    assert message.endswith(b"|=g,%.0f|after" % score)
    assert discarded == b"-|g|" + CHANNEL.encode()
    assert len(site.members()) == 1, "only the machine knows whether it has other members"


# Flushes


def test_a_flush_keeps_the_last_id(site: Site) -> None:
    site.renew()
    for n in range(3):
        site.send(f"p{n}")
    last = site.last_id()
    assert site.run(scripts.EMPTY_STREAMS, [site.stream(), site.stream(OTHER)]) == 2
    assert site.texts() == []
    assert site.last_id() == last
    assert site.command("PTTL", site.stream()) > 0
    site.send("new")
    assert site.last_id() > last


def test_a_flush_removes_what_is_no_stream(site: Site) -> None:
    site.command("SET", site.stream(), "x")
    site.run(scripts.EMPTY_STREAMS, [site.stream()])
    assert not site.command("EXISTS", site.stream())


# The usual message by machine, for which the script takes a shorter way


def known(site: Site) -> str:
    """As a caller has it that has sent before."""
    now = site.now()
    return f"{now - 1000}|0|{now}|"


def test_the_short_way_does_what_the_long_one_does(site: Site) -> None:
    for machine in (M, OTHER):
        site.renew(machine=machine)
    t = site.register(60_000)
    site.register(60_000, machine=OTHER)
    replies = [site.group_send("p", 3, f"@{OTHER}!", text) for text in (known(site), "")]
    assert [reply[:5] for reply in replies] == [[1, 0, 0, 0, site.command("GET", site.keys.epoch)]] * 2
    assert all(abs(reply[5] - site.now()) < 5000 for reply in replies)
    assert site.texts(OTHER) == []
    short, long = (text.split(b"|") for text in site.texts())
    assert (short[0], short[2:]) == (long[0], long[2:])
    assert short[3] == b"=g,%d" % t
    assert abs(int(short[1]) - int(long[1])) < 2000
    assert site.command("PTTL", site.stream()) > 3_600_000


def test_nobody_else_has_members(site: Site) -> None:
    site.renew()
    assert site.group_send("p", 3, f"@{M}!", known(site))[:4] == [0, 0, 0, 0]
    site.register(60_000)
    assert site.group_send("p", 3, f"@{M}!", known(site)) == [0, 0, 0, 0, site.command("GET", site.keys.epoch), 0]
    assert site.texts() == []


@pytest.mark.parametrize("what", ["dead", "full", "ended", "a process", "a queue", "many", "no epoch"])
def test_what_is_unusual_takes_the_long_way(site: Site, what: str) -> None:
    site.renew(inboxes=1, life=60_000)
    site.register(60_000)
    expected = [1, 0, 0, 0]
    if what == "dead":
        site.command("DEL", site.alive())  # of a server that has just lost its data, so nobody counts as dead yet
    elif what == "full":
        for n in range(64 + 3):
            site.command("XADD", site.stream(), "*", "e", f"1|99999999999999|1-1:0|{CHANNEL}|{n}")
        expected = [0, 1, 0, 0]
    elif what == "ended":
        site.command("ZADD", site.group, 5, f"@{M}!")
        expected = [0, 0, 0, 0]
    elif what == "a process":
        site.command("SET", site.keys.alive("PROCESS"), f"{site.now() + 4000}.5000", "PX", 60_000)
        site.command("ZADD", site.group, site.now() + 60_000, "specific.PROCESS!1")
        expected = [2, 0, 0, 0]
    elif what == "a queue":
        site.command("ZADD", site.group, site.now() + 60_000, "jobs")
        expected = [2, 0, 0, 0]
    elif what == "many":
        for n in range(12):
            site.renew(machine=f"MACHINE{n:03}")
            site.register(60_000, machine=f"MACHINE{n:03}")
        expected = [13, 0, 0, 0]
    else:
        site.command("DEL", site.keys.epoch)
    assert site.group_send("p", 3, f"@{OTHER}!", known(site))[:4] == expected
    assert site.payloads().count(b"p") == (what not in ("full", "ended"))
