"""What tests see inside: all their knowledge of private structure is here, under names that say what it is for.

`probe(layer)` looks into a layer, as the calling process and the running loop have it. The rest is for one object each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from unittest import mock

from hybrid_layer import base, serializers, statistics
from hybrid_layer.loops import call_in
from hybrid_layer.names import non_local

with contextlib.suppress(ImportError):  # the package without its local half
    from hybrid_layer.ipc import attachments, calls, objects, sweeping, wait_set
    from hybrid_layer.ipc.segment import LocalSegment

# Only functions for the remote half import it: some tests check that a layer works without it.
if TYPE_CHECKING:
    from hybrid_layer.remote.delivery.heartbeat import Heartbeat
    from hybrid_layer.remote.redis.hosts.named_host import NamedHost
    from hybrid_layer.remote.redis.hosts.sentinel import Sentinels
    from hybrid_layer.remote.runtime import io_thread


class Probe:
    """A layer, or one of its transports, from the inside."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._halves = getattr(layer, "_transports", (layer,))

    async def group_send(self, group: str, payload: bytes) -> None:
        """Send bytes of any kind."""
        await self._layer._group_transport.group_send(group, payload)

    def decoded(self, payload: bytes, channel: str) -> dict[str, Any]:
        """The message in `payload`, which was sent to `channel`."""
        message: dict[str, Any] = self._layer._codec.decode(payload, channel)
        return message

    # The half in shared memory

    @property
    def local(self) -> Any:
        """The local half, which has methods of its own for the hybrid layer."""
        return self._halves[0]

    @property
    def segment(self) -> LocalSegment:
        """That of this process; attached now, if it was not."""
        segment: LocalSegment = self.local.process().segment
        return segment

    @property
    def core(self) -> Any:
        """The segment in C."""
        return self.segment.core

    @property
    def wait_set(self) -> Any:
        """Where the running loop waits in the segment."""
        return self.segment.wait_sets.get()

    @property
    def open_inboxes(self) -> list[str]:
        """The names of those that the layer has opened in the segment."""
        return list(self.local.process().inboxes)

    @property
    def segment_descriptor(self) -> int:
        return self.segment._file.fd

    @property
    def lock_descriptor(self) -> int:
        return self.segment._lock_file.fd

    @property
    def inode(self) -> int:
        """Tells one segment from the next of the same name."""
        return os.fstat(self.segment_descriptor).st_ino

    def call(self, operation: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """An operation of the core, as the layer calls those that may have to wait."""
        called: Awaitable[Any] = self.local.call(operation, *args)
        return called

    @contextlib.contextmanager
    def after_each_call(self, action: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Have `action` done after each operation that `call` calls."""
        call = self.local.call

        async def call_and_act(*args: Any) -> Any:
            result = await call(*args)
            await action()
            return result

        with mock.patch.object(self.local, "call", call_and_act):
            yield

    def remember(self, group: str, channel: str, deadline: float) -> None:
        """Note a membership, to be restored in another segment."""
        process = self.local.process()
        process.remember(group, channel, deadline, process.segment.core.epoch)

    def forget(self, group: str, channel: str) -> None:
        """Note that a membership has ended."""
        del self.local.process().memberships[group, channel]

    def restore(self) -> bool:
        """Add the noted memberships anew; whether that worked."""
        restored: bool = self.local.process().restore()
        return restored

    @contextlib.contextmanager
    def before_a_move(self, action: Callable[[], None]) -> Iterator[None]:
        """Have `action` done when the segment is about to be left for another."""
        damage = self.segment._damage
        del self  # which would keep the layer
        retire = damage.retire

        def act_and_retire(*args: Any) -> bool:
            action()
            return retire(*args)

        with mock.patch.object(damage, "retire", act_and_retire):
            yield

    def fail_to_attach(self, monkeypatch: Any, attach: Callable[[], Any]) -> None:
        """Have `attach` called in place of what attaches the next segment."""
        monkeypatch.setattr(self.segment, "_attach", attach)

    def housekeeping_is_due(self) -> None:
        """Have the next message sent make sure that the segment is still there, as one does each second."""
        self.local._own.peek().next_housekeeping = 0.0

    def notice_a_repair(self) -> None:
        """Have the running loop look after its places, as when the segment was repaired."""
        here = self.wait_set
        here._rebuilds -= 1
        here.settle_soon()

    def each_housekeeping(self, action: Callable[[], None]) -> None:
        """Have `action` done with each housekeeping of the running loop, from now on."""
        here = self.wait_set
        look = here._look_by_name

        def act_and_look(core: Any) -> None:
            action()
            look(core)

        here._look_by_name = act_and_look

    # The half over servers

    @property
    def remote(self) -> Any:
        """The remote half."""
        return self._halves[-1]

    @property
    def context(self) -> Any:
        """What all parts of the remote half know: its ids, shards, counters."""
        return self.remote._process().context

    @property
    def hosts(self) -> Any:
        """The servers, as `remote.hosts` has them."""
        return self.remote._process().store.connections.hosts

    @property
    def home(self) -> Any:
        """The shard where the process has its inbox."""
        return self.context.home

    @property
    def name(self) -> str:
        """That of the process on its servers."""
        name: str = self.context.name
        return name

    @property
    def parts(self) -> list[str]:
        """The names of the process's inboxes."""
        return list(self.context.inboxes)

    @property
    def knows_server_clock(self) -> bool:
        """Whether the process can tell what time it is on its home shard."""
        return self.home.clock.stamp(0) is not None

    def doubt_server_clock(self) -> None:
        """Have it measured anew."""
        self.home.clock.doubt()

    @property
    def is_connected(self) -> bool:
        """Whether a loop of the process has a usable connection to a server, for commands."""
        loops = self.remote._process().context.loops.all()
        return any(each.usable for here in loops for each in here.connections.values())

    @property
    def ends_with_loop(self) -> int:
        """How many things are to be ended with the running loop."""
        return len(self.remote._process().context.loops.get().on_loop_end)

    def around_commands(self, monkeypatch: Any, act: Callable[[Callable[[], Awaitable[Any]], Any], Any]) -> None:
        """Have `act(run, command)` called in place of `run()`, for each command."""
        connections = self.remote._process().store.connections
        run = connections.run

        async def act_and_run(shard: Any, command: Any, *further: Any) -> Any:
            return await act(lambda: run(shard, command, *further), command)

        monkeypatch.setattr(connections, "run", act_and_run)

    def meet_lost_connection(self) -> None:
        """Have the process restore what its home shard should know, as after a connection was lost."""
        self.home.on_lost()

    def look_after_keys(self) -> None:
        """Have them renewed now."""
        heartbeat = self.remote._process().heartbeat
        heartbeat._due = 0.0
        heartbeat.wake()

    def would_restore(self, group: str, channel: str) -> bool:
        """Whether the process would restore this membership if the server lost it."""
        return (group, channel) in self.remote._process().heartbeat._memberships

    def is_lost(self, shard: int) -> bool:
        """Whether the process knows that it cannot receive from this shard."""
        process = self.remote._process()
        lost: bool = process.outages.has_lost(process.context.shards[shard])
        return lost

    async def has_made_groups_known(self) -> bool:
        """Whether all servers know the machine's groups, and none is being told of them."""
        machine = self.remote._process().machine._machine
        views = [await machine.look(shard.number) for shard in self.context.shards]
        return all(view.registration and view.walked == view.registration for view in views)

    @property
    def reads_for_machine(self) -> bool:
        """Whether the process reads the machine's stream on each shard, or has no such streams to read."""
        machine = self.remote._process().machine if self.remote is not self.local else None
        if machine is None or not machine.leases.reads_always:
            return True
        return all(reader._server != (0, 0) for reader in machine.leases._readers)

    def note_waiting(self, channel: str) -> None:
        """Note that somebody waits on `channel`, who is to be told of outages."""
        self.remote._process().outages.seen(channel)

    @property
    def told_of_outages(self) -> int:
        """How many channels are told of outages, or were and are not forgotten yet."""
        return len(self.remote._process().outages._seen)

    @property
    def listens_in(self) -> Any:
        """The loop in which what is sent to the process is read. None unless all shards are read there."""
        loops = {_loop_of(each) for each in _each_shard(self.remote._process())}
        return loops.pop() if len(loops) == 1 else None

    def is_read(self, channel: str) -> bool:
        """Whether the running loop takes from the channel, or its inbox, on the server what comes."""
        return _reads(self._layer._transport_for(channel)._state.peek(), channel)

    @property
    def listens_in_thread(self) -> bool:
        """Whether the subscribed connections are open in the I/O thread."""
        terms = [subscriber._terms.current for subscriber in _each_shard(self.remote._process())]
        return all(term is not None and term.is_open() and term.in_thread for term in terms)

    @property
    def term(self) -> Any:
        """The present term of the connection subscribed on the home shard, which tells it from the next."""
        return _each_shard(self.remote._process())[self.home.number]._terms.current

    def cancel_take_over(self) -> bool:
        """Cancel the loop's term that takes over the connection to the home shard just now. False: there is none."""
        term = _each_shard(self.remote._process())[self.home.number]._terms.next
        return term is not None and not term.in_thread and call_in(term.loop, term.task.cancel)

    def when_take_over_fails(self, action: Callable[[], None]) -> None:
        """Have `action` done whenever a loop has tried in vain to take over what is subscribed on the home shard."""
        terms = _each_shard(self.remote._process())[self.home.number]._terms
        keep = terms._keep

        def act_and_keep(term: Any) -> None:
            action()
            keep(term)

        terms._keep = act_and_keep

    @property
    def search(self) -> Any:
        """The future of the search for the services of the Sentinels, by which the machine is to be served."""
        return self.remote._search.peek()

    @property
    def reads_for_the_machine(self) -> bool:
        """Whether this process has a lease."""
        return any(self.remote._process().machine.leases._held)

    def stop_reading_for_the_machine(self) -> None:
        """End it without giving the leases back, as a process does that is killed."""
        leases = self.remote._process().machine.leases

        def die() -> None:
            for reader in leases._readers:
                reader.end()
            leases._held = [0] * len(leases._held)
            leases.abort()

        from hybrid_layer.remote.runtime import io_thread

        io_thread.current().call_soon(die)

    # Both

    def is_at_rest(self, channel: str) -> bool:
        """Whether who receives on `channel`, in the running loop, waits for what others send."""
        half = self._layer._transport_for(channel)
        half = getattr(half, "_found", {}).get("found", half)
        if hasattr(half, "_state"):
            process = half._state.peek()
            return process is not None and _waits_at_server(process, channel)
        process = half._own.peek()
        return process is not None and _waits_in_memory(process, channel)

    def receives_on(self, channel: str) -> bool:
        """Note a channel as one to receive on; whether it is remembered."""
        self._layer._note_readable(channel)
        return channel in self._layer._names.get(base._Names).readable

    @property
    def remembered(self) -> int:
        """How many channels are remembered as ones to receive on."""
        return len(self._layer._names.get(base._Names).readable)


probe = Probe


def _waits_in_memory(process: Any, channel: str) -> bool:
    here = process.segment.wait_sets.peek(asyncio.get_running_loop())
    if here is None or not (here._asleep or here.number < 0):
        return False
    inbox = non_local(channel)
    if inbox in process.inboxes:
        return process.inbox.is_waited_on(channel) and (inbox in here.watched or here.number < 0)
    return channel in here._registered and channel in here._queues


def _waits_at_server(process: Any, channel: str) -> bool:
    if "!" in channel:
        if not process.context.inbox.is_waited_on(channel):
            return False
        return all(_loop_of(each) is not None for each in _each_shard(process))
    return _reads(process, channel)


def _reads(process: Any, channel: str) -> bool:
    if "!" not in channel:
        shard = process.context.shard_of(channel)
        here = process.context.loops.peek(asyncio.get_running_loop())
        reader = here and here.readers.get(shard.number)
        return bool(reader and channel in reader._reading and reader._reader._asked is not None)
    return all(_loop_of(each) is not None for each in _each_shard(process))


def _each_shard(process: Any) -> list[Any]:
    """What reads for a process, by shard: readers of inboxes, or subscribers."""
    delivery = process.delivery
    return delivery._readers if hasattr(delivery, "_readers") else [each.subscriber for each in delivery._shards]


def _loop_of(reader: Any) -> Any:
    """The loop in which a reader of inboxes or a subscriber waits for messages, or None."""
    if hasattr(reader, "_terms"):
        term = reader._terms.current
        return term.loop if term is not None and term.is_open() else None
    reading = reader._reading
    return reading.loop if reading is not None and reading.reads and reading.reader._asked is not None else None


# Shared memory


def posix_name(name: str) -> str:
    """The name of a segment's shared-memory object."""
    return objects._posix_name(name)


def leave_all() -> None:
    """Leave all segments, as at the end of the process."""
    attachments._close_all()


def only_woken(monkeypatch: Any, seconds: float) -> None:
    """No housekeeping finds a message within `seconds`."""
    monkeypatch.setattr(wait_set, "REPOLL", seconds)
    monkeypatch.setattr(wait_set, "_INBOX_REPOLL", seconds)


def turns_of_a_loop() -> int:
    """After so many messages taken at once, a receiver lets others run."""
    return wait_set._BUDGET


def sends() -> tuple[object, ...]:
    """The core's operations that are not repeated once they have met damage."""
    return calls._SENDS


def set_sends(monkeypatch: Any, operations: tuple[object, ...]) -> None:
    monkeypatch.setattr(calls, "_SENDS", operations)


class Sweeper:
    """The sweeping of what the dead left, of which a process does some when it begins."""

    def __init__(self, monkeypatch: Any) -> None:
        self._monkeypatch = monkeypatch
        self._names = sweeping._names

    def only(self, is_ours: Callable[[str], bool]) -> None:
        """Sweep only segments of which `is_ours` is true."""
        names = self._names
        self._monkeypatch.setattr(sweeping, "_names", lambda: [name for name in names() if is_ours(name)])

    def pretend(self, names: list[str], looked_at: Callable[[str], None]) -> None:
        """Have these names there, and `looked_at` called in place of the look at one."""
        self._monkeypatch.setattr(sweeping, "_names", lambda: names)
        self._monkeypatch.setattr(sweeping, "_remove_if_left", lambda name, even_if_needed: looked_at(name))

    def seconds(self, seconds: float) -> None:
        """Have so much time for one sweep."""
        self._monkeypatch.setattr(sweeping, "_SECONDS", seconds)

    def without_open_files(self, missing: Path) -> None:
        """Have no list of open files."""
        self._monkeypatch.setattr(sweeping, "_DESCRIPTORS", missing)

    def sweep(self) -> None:
        with attachments._registry.get(threading.RLock):
            sweeping.sweep()


# Servers


class IOThreadProbe:
    """The I/O thread of this process, from inside."""

    def __init__(self, thread: io_thread.IOThread) -> None:
        self._thread = thread

    @property
    def thread(self) -> Thread | None:
        return self._thread._thread

    @property
    def selector(self) -> Any:
        return self._thread._loop and self._thread._loop._selector

    @property
    def lock(self) -> Any:
        """Held by who starts or ends the thread."""
        return self._thread._lock

    def begins_again_after(self, monkeypatch: Any, first: float, last: float) -> None:
        """The pauses before a thread that has ended is replaced."""
        from hybrid_layer.remote.runtime import io_thread

        monkeypatch.setattr(io_thread, "_PAUSES", (first, last))
        monkeypatch.setattr(self._thread, "_pause", first)

    def when_opened(self, monkeypatch: Any, action: Callable[[Any], None]) -> None:
        """Have `action` done with each event loop that the thread opens."""
        opening = self._thread._open

        def opened() -> Any:
            loop = opening()
            action(loop)
            return loop

        monkeypatch.setattr(self._thread, "_open", opened)


def io_thread_probe() -> IOThreadProbe:
    from hybrid_layer.remote.runtime import io_thread

    return IOThreadProbe(io_thread.current())


def new_io_thread(monkeypatch: Any, begins_within: float | None = None) -> io_thread.IOThread:
    """One for the layers of this test, that has not begun; `begins_within` so many seconds, or it is an error."""
    from hybrid_layer.remote.runtime import io_thread

    thread = io_thread.IOThread()
    monkeypatch.setattr(io_thread, "_current", thread)
    if begins_within is not None:
        monkeypatch.setattr(io_thread, "_BEGIN", begins_within)
    return thread


def trust_in_the_epoch(monkeypatch: Any, seconds: float) -> float:
    """For how long no script looks after the epoch's key again, once one has. Returns what it was."""
    from hybrid_layer.remote.redis import knowledge

    before: float = knowledge._PROLONG_AFTER
    monkeypatch.setattr(knowledge, "_PROLONG_AFTER", seconds)
    return before


def open_sockets() -> Any:
    """The descriptors of connections to servers, which a forked child closes."""
    from hybrid_layer.remote.runtime import descriptors

    return [descriptor for descriptor, _ in descriptors._open.values()]


def addresses(host: NamedHost) -> Any:
    """To what the name of a host leads, as far as this process knows."""
    return host._addresses


def watch_named_hosts(monkeypatch: Any, looked: Callable[[NamedHost], Any], asked: Callable[[NamedHost], Any]) -> None:
    """Have `looked` called before a name is looked up, and `asked` before its addresses are asked who answers."""
    from hybrid_layer.remote.redis.hosts.named_host import NamedHost

    check, who_answers = NamedHost.check, NamedHost._who_answers

    def checks(host: NamedHost) -> Any:
        looked(host)
        return check(host)

    def asks(host: NamedHost) -> Any:
        asked(host)
        return who_answers(host)

    monkeypatch.setattr(NamedHost, "check", checks)
    monkeypatch.setattr(NamedHost, "_who_answers", asks)


def when_sentinels_are_asked(monkeypatch: Any, action: Callable[[str], None]) -> None:
    """Have `action` done with the Sentinels' label before they are asked for a master."""
    from hybrid_layer.remote.redis.hosts.sentinel import Sentinels

    ask = Sentinels.master

    async def act_and_ask(sentinels: Sentinels, service: str) -> Any:
        action(sentinels.label)
        return await ask(sentinels, service)

    monkeypatch.setattr(Sentinels, "master", act_and_ask)


def listen_to_sentinels_again_after(monkeypatch: Any, seconds: float) -> None:
    from hybrid_layer.remote.redis.hosts import sentinel

    monkeypatch.setattr(sentinel, "_AGAIN", seconds)


def before_keeping(monkeypatch: Any, action: Callable[[], Awaitable[None]]) -> None:
    """Have `action` done before a reader or subscriber has a process's keys renewed on its shard."""
    from hybrid_layer.remote.delivery.heartbeat import Heartbeat

    renew_process = Heartbeat.renew_process

    async def act_and_renew(heartbeat: Heartbeat, shard: Any) -> None:
        await action()
        await renew_process(heartbeat, shard)

    monkeypatch.setattr(Heartbeat, "renew_process", act_and_renew)


def packs_with_hiredis() -> bool:
    from hybrid_layer.remote.redis.server import commands

    return commands._pack is not None


def pack_without_hiredis(monkeypatch: Any) -> None:
    from hybrid_layer.remote.redis.server import commands

    monkeypatch.setattr(commands, "_pack", None)


def node_of_cluster(host: Any, name: str, port: int) -> Any:
    """A node of the cluster that `host` is one part of."""
    return host._cluster._at(name, port)


def ended_incarnations(epoch: Any) -> int:
    """How many incarnations of a server are remembered that are over."""
    return len(epoch._left)


# What both halves share


def forget_warnings(monkeypatch: Any) -> None:
    """What was warned of before is no reason to be silent."""
    monkeypatch.setattr(statistics, "_process_log", statistics.ThrottledLog())


def counted_keys(warnings: statistics.ThrottledLog) -> int:
    """Of how many things it is remembered that they were warned of."""
    return len(warnings._by_key)


def own_serializers(monkeypatch: Any) -> None:
    """What is registered from now on is gone after the test."""
    monkeypatch.setattr(serializers, "_serializers", dict(serializers._serializers))


def when_decrypted(monkeypatch: Any, codec: serializers.Codec, action: Callable[[bytes], None]) -> None:
    """Have `action` done with each payload before it is decrypted."""
    cipher: Any = type(codec._cipher)
    decrypt = cipher.decrypt

    def act_and_decrypt(cipher: Any, payload: bytes) -> bytes:
        action(payload)
        return bytes(decrypt(cipher, payload))

    monkeypatch.setattr(cipher, "decrypt", act_and_decrypt)


def forbid_decryption(monkeypatch: Any, codec: serializers.Codec) -> None:
    monkeypatch.setattr(codec, "_cipher", object())


def when_loaded(monkeypatch: Any, codec: serializers.Codec, action: Callable[[bytes], None]) -> None:
    """Have `action` done with each text before it is deserialized."""
    loads = codec._serializer.loads

    def act_and_load(text: bytes) -> Any:
        action(text)
        return loads(text)

    monkeypatch.setattr(codec, "_serializer", mock.Mock(loads=act_and_load))


def remember_at_most(monkeypatch: Any, channels: int) -> None:
    """Of how many channels a layer remembers that it may receive on them."""
    monkeypatch.setattr(base, "_MOST_READABLE", channels)


def lock_of(loop_local: Any) -> Any:
    """The lock of a `LoopLocal`."""
    return loop_local._lock


def cached(cache: Any) -> int:
    """How many answers a `Policy` or a `Router` remembers."""
    function = getattr(cache, "_cached_capacity_for", None) or cache._normal_route
    size: int = function.cache_info().currsize
    return size


def sweep_inbox_at(inbox: Any, time: float) -> None:
    """When an inbox looks for channels that nobody uses any more."""
    inbox._next_sweep = time
