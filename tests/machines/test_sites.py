"""Three machines of several processes each, at one server and at three: who gets what, and what outlives what."""

from __future__ import annotations

import contextlib

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from tests.machines.peers import Peer, Site, expect
from tests.support.waiting import block_until

SITES = [
    pytest.param((1, "queue", "name"), id="one server"),
    pytest.param((3, "queue", "name"), id="three servers"),
    pytest.param((1, "queue", "machine"), id="by machine, one server", marks=pytest.mark.long),
    pytest.param((3, "queue", "machine"), id="by machine, three servers"),
    pytest.param((1, "pubsub", "name"), id="pubsub, one server", marks=pytest.mark.long),
    pytest.param((3, "pubsub", "name"), id="pubsub, three servers", marks=pytest.mark.thorough),
]
pytestmark = pytest.mark.parametrize("site", SITES, indirect=True)


def test_machines_share_no_memory(site: Site) -> None:
    first, same, other = site.peer(0), site.peer(0), site.peer(1)
    assert first.call("statistics") is not None
    other.read("jobs")
    first.send("jobs", "of the first machine")
    other.send("jobs", "of the other one")
    other.expect("jobs", ["of the other one"])
    same.read("jobs")
    same.expect("jobs", ["of the first machine"])
    assert len(other.got("jobs")) == 1


def test_process_specific_channels_and_groups_reach_every_machine(site: Site) -> None:
    peers = [site.peer(machine) for machine in (0, 0, 1, 1, 2, 2)]
    channels = [peer.open("everybody") for peer in peers]
    for sender in peers:
        for channel in channels:
            sender.send(channel, *(["direct", peers.index(sender), n] for n in range(5)))
        sender.group_send("everybody", *(["group", peers.index(sender), n] for n in range(5)))
    expected = [[kind, n, m] for kind in ("direct", "group") for n in range(6) for m in range(5)]
    for peer, channel in zip(peers, channels, strict=True):
        block_until(lambda p=peer, c=channel: len(p.got(c)) >= len(expected), "all have come")  # type: ignore[misc]
        got = peer.got(channel)
        if len(site.servers) == 1:
            assert got == sorted(expected, key=lambda message: message[1])
        # With several servers, a group may be on another one.
        assert sorted(got, key=lambda message: message[:2]) == expected


def test_each_machine_gets_a_groups_message_in_one_of_its_readers(site: Site) -> None:
    """A normal channel is a member on two machines, each with three readers; the third machine has no member."""
    members = [[site.peer(machine) for _ in range(3)] for machine in (0, 1)]
    bystander, sender = site.peer(2), site.peer(2)
    for readers in members:
        for reader in readers:
            reader.read("jobs")
        readers[0].call("group_add", "work", "jobs")
    bystander.read("jobs")
    sender.group_send("work", *range(60))
    for readers in members:
        expect(readers, "jobs", range(60))
    members[0][1].call("group_discard", "work", "jobs")  # by another process than the one that added it
    sender.group_send("work", 60)
    expect(members[1], "jobs", range(61))
    sender.send("jobs", "on its own machine")
    bystander.expect("jobs", ["on its own machine"])
    expect(members[0], "jobs", range(60))


def test_the_others_of_a_machine_go_on_when_a_reader_is_killed(site: Site) -> None:
    """Even if it was the one that made the channel a member."""
    readers, elsewhere, sender = [site.peer(0) for _ in range(3)], site.peer(1), site.peer(2)
    for peer in (*readers, elsewhere):
        peer.read("jobs")
    own = [peer.open("everybody") for peer in (*readers, elsewhere)]
    for peer in (readers[0], elsewhere):
        peer.call("group_add", "work", "jobs")
    sender.group_send("work", *range(20))
    expect(readers, "jobs", range(20))
    before = {reader: len(reader.got("jobs")) for reader in readers[1:]}
    readers[0].process.kill()
    for n in range(20, 60):
        sender.group_send("work", n)
        sender.group_send("everybody", n)
    left = readers[1:]
    block_until(lambda: sum(len(each.got("jobs")) for each in left) >= sum(before.values()) + 40, "all have come")
    assert sorted(n for each in left for n in each.got("jobs")[before[each] :]) == list(range(20, 60))
    expect([elsewhere], "jobs", range(60))
    for peer, channel in zip((*left, elsewhere), own[1:], strict=True):
        peer.expect(channel, range(20, 60))


class Strand:
    """What one sender sends to a group: running numbers under its name."""

    def __init__(self, sender: Peer, name: str, group: str) -> None:
        self.sender = sender
        self.name = name
        self.group = group
        self.next = 0

    def send(self) -> bool:
        """Send the next number; whether that went through."""
        n, self.next = self.next, self.next + 1
        try:
            self.sender.group_send(self.group, [self.name, n])
        except RemoteUnavailable:
            return False
        return True

    def got(self, peer: Peer, channel: str) -> list[int]:
        """What has come of it."""
        return [n for name, n in peer.got(channel) if name == self.name]

    def send_until_heard(self, readers: dict[Peer, str]) -> int:
        """Send until one of these messages has come to each of the readers; the first that came to all."""
        start = self.next

        def is_heard() -> bool:
            self.send()
            return all(any(n >= start for n in self.got(*each)) for each in readers.items())

        block_until(is_heard, f"all hear {self.name} again", 30)
        return max(min(n for n in self.got(*each) if n >= start) for each in readers.items())


@pytest.mark.timeout(180)
def test_a_machine_is_cut_off_and_connected_again(site: Site) -> None:
    """Nothing comes twice or out of order, and once everybody is heard again, everything comes."""
    peers = [site.peer(0), site.peer(0), site.peer(1)]
    readers = {peer: peer.open("everybody") for peer in peers}
    strands = [Strand(peers[0], "from the machine", "everybody"), Strand(peers[2], "to the machine", "everybody")]
    for strand in strands:
        strand.send_until_heard(readers)
    site.machines[0].cut()
    while strands[0].send():
        pass
    for _ in range(3):
        strands[1].send()
        assert not strands[0].send()
    peers[0].send("jobs", "within the machine")  # which needs no server
    peers[1].read("jobs")
    peers[1].expect("jobs", ["within the machine"])
    site.machines[0].heal()
    heard = {strand: strand.send_until_heard(readers) for strand in strands}
    for _ in range(30):
        for strand in strands:
            assert strand.send()
    for strand, first in heard.items():
        for reader in readers.items():
            block_until(lambda s=strand, r=reader: s.next - 1 in s.got(*r), "the last one comes")  # type: ignore[misc]
            got = strand.got(*reader)
            assert got == sorted(set(got))
            assert [n for n in got if n >= first] == list(range(first, strand.next))


def test_a_flush_on_one_machine_empties_the_others(site: Site) -> None:
    """When they meet a server the next time, whichever that is, and then once only."""
    flusher, *others = [site.peer(machine) for machine in range(3)]
    own = [other.call("new_channel") for other in others]
    for other, channel in zip(others, own, strict=True):
        other.call("group_add", "everybody", channel)
        other.send("jobs", "before")
        other.send(channel, "before")
    flusher.send("jobs", "before")
    flusher.call("flush")
    for other, channel in zip(others, own, strict=True):
        other.group_send("nobody", "meets a server again")
        other.send("jobs", "after")
        other.send(channel, "after")
        other.group_send("nobody", "and again")
        for each in ("jobs", channel):
            other.read(each)
            other.expect(each, ["after"])
    flusher.group_send("everybody", "gone")  # a flush ends memberships, too
    flusher.send("jobs", "after")
    flusher.read("jobs")
    flusher.expect("jobs", ["after"])
    for other, channel in zip(others, own, strict=True):
        flusher.send(channel, "last")
        other.expect(channel, ["after", "last"])


def test_what_failed_in_a_cut_does_not_come_later(site: Site) -> None:
    """The system would send it when the link is back, behind newer messages; a pop would take a message for nobody."""
    sender, receiver = site.peer(0), site.peer(1)
    channel, _ = receiver.open(), sender.open()
    sender.send(channel, "before")
    site.machines[0].cut()
    with pytest.raises(RemoteUnavailable):
        sender.send(channel, "in the cut")
    machine = site.machines[0]
    nothing_left = "the system has nothing left to send"
    block_until(lambda: not (sender.unsent() or machine.is_looking_for_neighbours()), nothing_left, 20)
    machine.heal()

    def is_sent() -> bool:
        with contextlib.suppress(RemoteUnavailable):
            sender.send(channel, "after")
        return len(receiver.got(channel)) > 1

    block_until(is_sent, "the machine is back", 20)
    assert set(receiver.got(channel)) == {"before", "after"}
