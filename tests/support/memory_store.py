"""A store in the memory of one process, and layers over it: they prove that `delivery` needs no more than `Store` says.

`calls` of a store lists the verbs that were called, for tests that count them.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from hybrid_layer.base import BaseLayer
from hybrid_layer.clock import boottime
from hybrid_layer.configuration import LayerOptions, takes
from hybrid_layer.identity import random_id
from hybrid_layer.loops import call_in
from hybrid_layer.names import machine_of, non_local, process_of
from hybrid_layer.remote.delivery.context import Context, DeliveryOptions
from hybrid_layer.remote.delivery.epoch import Epoch
from hybrid_layer.remote.delivery.replies import (
    Batch,
    Entry,
    GroupSent,
    MachineRenewal,
    Note,
    Outcome,
    QueueState,
    Registration,
    Renewal,
    Report,
    Sent,
    SeveralSent,
)
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Kind, Question, Take
from hybrid_layer.remote.process import Process
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.remote.transport import RemoteTransport
from hybrid_layer.timers import time_limit
from hybrid_layer.transport import Excluded, Position, View
from tests.support.memory_streams import AliveKey, MemoryStream, MemoryStreamReader
from tests.support.waiting import turns


def addressee_of(name: str) -> str:
    """The process of a process-specific channel or inbox, or ``@MACHINE``."""
    machine = machine_of(name)
    return f"@{machine}" if machine else process_of(name)


class Server:
    """The state that all layers of one prefix share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._incarnation, self.flushes = random_id(), 0
        self.queues: defaultdict[str, deque[Entry]] = defaultdict(deque)
        self.groups: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.alive: dict[str, float] = {}
        self.notes: defaultdict[str, list[Note]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.reported: dict[str, int] = {}
        """By reporter, the number of its last report."""
        self.run = 1 + secrets.randbelow(2**64 - 1)
        self.machines: dict[str, AliveKey] = {}
        """By ``@MACHINE``; until when it lives is in `alive`."""
        self.streams: defaultdict[str, MemoryStream] = defaultdict(MemoryStream)
        self.readers: set[MemoryReader | MemoryStreamReader] = set()
        self.subscriptions: set[MemorySubscription] = set()

    @property
    def epoch(self) -> bytes:
        return f"{self._incarnation}:{self.flushes}".encode()

    def add_report(self, report: Report | None) -> None:
        """Add up what a process has counted, once."""
        if report is not None and self.reported.get(report.reporter, 0) < report.number:
            self.reported[report.reporter] = report.number
            self.counts.update(report.counts)

    def is_gone(self, inbox: str) -> bool:
        """Whether the process or machine of `inbox` is dead."""
        return self.alive.get(addressee_of(inbox), 0.0) <= boottime()

    def store(self, name: str, entry: Entry, capacity: int) -> tuple[bool, int]:
        """Whether there was room in a queue or inbox, and how many expired entries were dropped for it."""
        queue, expired = self.queues[name], 0
        while len(queue) >= capacity and queue[0].stamp_ms <= boottime() * 1000:
            queue.popleft()
            expired += 1
        if len(queue) >= capacity:
            return False, expired
        queue.append(entry)
        self.tell_readers()
        return True, expired

    def append(self, machine: str, entry: Entry, capacity: int, group: str = "", t: int = 0) -> tuple[bool, int]:
        """As `store`, for the stream of ``@MACHINE``."""
        stream = self.streams[machine]
        has_room, expired = stream.make_room(capacity, self.machines[machine].inboxes)
        if has_room:
            stream.add(entry, group=group, t=t)
            self.tell_readers()
        return has_room, expired

    def note(self, addressee: str, note: Note) -> None:
        """Leave a note for a process or ``@MACHINE``."""
        if addressee.startswith("@"):
            self.streams[addressee].add(note=note)
        else:
            self.notes[addressee].append(note)
        self.tell_readers()

    def register(self, group: str, machine: str, life: float, forgotten: int) -> int:
        """Register a group for ``@MACHINE``. Returns T."""
        members = self.groups[group]
        old = round(members.get(f"{machine}!", 0.0) * 1000)
        t = max(old + 1, forgotten + 1, int((boottime() + life) * 1000))
        members[f"{machine}!"] = t / 1000
        return t

    def add_reader(self, reader: MemoryReader | MemoryStreamReader) -> None:
        with self.lock:
            self.readers.add(reader)

    def remove_reader(self, reader: MemoryReader | MemoryStreamReader) -> None:
        with self.lock:
            self.readers.discard(reader)

    def tell_readers(self) -> None:
        for reader in self.readers:
            reader.wake()

    def publish(self, is_for: Callable[[MemorySubscription], bool], kind: Kind, group: str, what: Any) -> int:
        """How many subscriptions get it."""
        heard = [each for each in self.subscriptions if is_for(each)]
        for each in heard:
            each.add((kind, group, what))
        return len(heard)

    def publish_to(self, process: str, kind: Kind, group: str, what: Any) -> int:
        """How many subscriptions of one process hear of it."""
        return self.publish(lambda each: each.process == process, kind, group, what)


_servers: defaultdict[str, Server] = defaultdict(Server)


class MemoryReader:
    """Implements `Reader`. It takes an entry only when it hands it over, so that a cancellation loses nothing."""

    def __init__(self, server: Server, shard: Shard, block_time: float, notes_of: str) -> None:
        self._server = server
        self._shard = shard
        self._block_time = block_time
        self._notes_of = notes_of
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._interrupted = self._given_up = False
        self._asked: float | None = None
        """Since when it waits."""
        self.cancelled = False

    async def connect(self) -> None:
        self._server.add_reader(self)

    async def read(self, sources: Sequence[str], count: int) -> Batch | None:
        await self.connect()
        try:
            async with time_limit(self._block_time):
                while True:
                    self._news.clear()
                    batch = self._take(sources, count)
                    self._asked = boottime()
                    if batch is not None or self._interrupted:
                        self._interrupted = False
                        return batch
                    await self._news.wait()
        except TimeoutError:
            return None
        except asyncio.CancelledError:
            self.cancelled = True
            if self._given_up:
                raise
            return None
        finally:
            self._asked = None

    def _take(self, sources: Sequence[str], count: int) -> Batch | None:
        with self._server.lock:
            notes = self._server.notes.pop(self._notes_of, None)
            if notes:
                return Batch("", notes=notes)
            for source in sources:
                queue = self._server.queues[source]
                if queue:
                    return Batch(source, [queue.popleft() for _ in range(min(count, len(queue)))])
        return None

    def wake(self) -> None:
        call_in(self._loop, self._news.set)

    def interrupt(self) -> None:
        self._interrupted = True
        self.wake()

    async def pause(self, cause: ReadingLost) -> None:
        await turns()

    async def learn_time(self, stamps_ms: Iterable[int]) -> None:
        self._shard.clock.measured(boottime(), boottime())

    async def learn_epoch(self, epoch: Epoch) -> None:
        epoch.answered(self._server.epoch, epoch.known)

    def abort(self, task: asyncio.Task[Any]) -> None:
        self._given_up = True
        self._server.readers.discard(self)
        if not task.get_loop().is_closed():
            task.cancel()

    async def close(self) -> None:
        self._server.remove_reader(self)


class MemorySubscription:
    """Implements `Subscription`."""

    def __init__(
        self, server: Server, process: str, block_time: float, take: Take, on_idle: Callable[[], None]
    ) -> None:
        self._server = server
        self.process = process
        self._block_time = block_time
        self.take = take
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._events: deque[tuple[Kind, str, Any] | Question] = deque()
        self.groups: set[str] = set()

    def add(self, event: tuple[Kind, str, Any] | Question) -> None:
        self._events.append(event)
        call_in(self._loop, self._news.set)

    async def open(self) -> None:
        pass

    async def subscribe(self, groups: Sequence[str]) -> None:
        with self._server.lock:
            self.groups.update(groups)
            self._server.subscriptions.add(self)

    def unsubscribe(self, groups: Sequence[str]) -> None:
        with self._server.lock:
            self.groups.difference_update(groups)

    def ask(self, question: Question) -> None:
        with self._server.lock:
            if question.group is not None:
                self.groups.add(question.group)
            self.add(question)

    def unanswered(self) -> list[Question]:
        return [event for event in self._events if isinstance(event, Question)]

    async def read(self) -> None:
        while not self._events:
            self._news.clear()
            try:
                async with time_limit(self._block_time):
                    await self._news.wait()
            except TimeoutError:
                self._on_idle()
        event = self._events.popleft()
        if isinstance(event, Question):
            event.answer(None)
        else:
            self.take(*event)
        await turns()  # as a connection does, give consumers a turn

    def abort(self, task: asyncio.Task[Any]) -> None:
        self._server.subscriptions.discard(self)

    async def close(self) -> None:
        with self._server.lock:
            self._server.subscriptions.discard(self)


class MemoryStore:
    """Implements `Store`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loops = context.loops
        self._publishes = context.options.mode == "pubsub"
        self._server = _servers[context.prefix]
        self.calls: list[str] = []

    def _called(self, verb: str, shard: Shard) -> float:
        """Note the call, and update the shard as an answer would. Returns the server's time."""
        self.calls.append(verb)
        now = boottime()
        shard.clock.measured(now, now)
        shard.epoch.meet(self._server.epoch)
        return now

    def _entry(self, now: float, names: Sequence[str], payload: bytes, expiry: float | None = None) -> Entry:
        life_ms = self._context.expiry_ms if expiry is None else int(expiry * 1000)
        return Entry(int(now * 1000) + life_ms, self._server.epoch, names, payload)

    async def send(
        self, shard: Shard, channel: str, payload: bytes, capacity: int, expiry: float | None = None
    ) -> Sent:
        with self._server.lock:
            self._called("send", shard)
            return self._send(shard, channel, payload, capacity, expiry)

    def _send(self, shard: Shard, channel: str, payload: bytes, capacity: int, expiry: float | None = None) -> Sent:
        with self._server.lock:
            entry = self._entry(boottime(), [channel], payload, expiry)
            if "!" in channel and self._server.is_gone(channel):
                return Sent(Outcome.DEAD, 0)
            name = non_local(channel) if "!" in channel else channel
            if machine_of(channel):
                has_room, expired = self._server.append(addressee_of(channel), entry, capacity)
            else:
                has_room, expired = self._server.store(name, entry, capacity)
            return Sent(Outcome.STORED if has_room else Outcome.FULL, expired)

    async def send_multiple(self, shard: Shard, channel: str, payloads: Sequence[bytes], capacity: int) -> SeveralSent:
        done = expired = 0
        with self._server.lock:
            self._called("send_multiple", shard)
            for payload in payloads:
                sent = self._send(shard, channel, payload, capacity)
                expired += sent.expired
                if sent.outcome is Outcome.FULL:
                    break
                done += 1
        return SeveralSent(sent.outcome, expired, done)

    async def put_back(self, shard: Shard, channel: str, entry: Entry, left: float) -> None:
        with self._server.lock:
            self._called("put_back", shard)
            if entry.epoch == self._server.epoch:
                self._server.queues[channel].appendleft(entry)
                self._server.tell_readers()

    def reader(self, shard: Shard, notes_of: str = "") -> MemoryReader:
        return MemoryReader(self._server, shard, self._context.options.block_time, notes_of)

    async def publish(self, shard: Shard, channel: str, payload: bytes, expiry: float | None = None) -> int:
        with self._server.lock:
            entry = self._entry(self._called("publish", shard), [channel], payload, expiry)
            return self._server.publish_to(process_of(channel), "direct", "", entry)

    def subscription(self, shard: Shard, take: Take, on_idle: Callable[[], None]) -> MemorySubscription:
        context = self._context
        return MemorySubscription(self._server, context.name, context.options.block_time, take, on_idle)

    async def mark(self, shard: Shard, mark: bytes) -> None:
        with self._server.lock:
            self._called("mark", shard)
            self._server.publish_to(self._context.name, "mark", "", mark)

    async def group_add(
        self, shard: Shard, group: str, member: str, life: float, tell: str = "", how: str = "add"
    ) -> bool:
        with self._server.lock:
            addressee = addressee_of(member) if machine_of(member) else tell
            if addressee and self._server.alive.get(addressee, 0.0) <= boottime():
                return False
            until = self._called("group_add", shard) + life
            if machine_of(member):
                self._server.register(group, addressee, 2 * life, 0)
                self._server.note(addressee, Note("+", group, member, int(until * 1000), self._server.epoch))
                return True
            members = self._server.groups[group]
            if how == "add" or member not in members or (how == "raise" and members[member] < until):
                members[member] = until
            self._tell(tell, Note("+", group, member, int(until * 1000), self._server.epoch))
            return True

    async def group_discard(self, shard: Shard, group: str, member: str, tell: str = "") -> None:
        with self._server.lock:
            self._called("group_discard", shard)
            if machine_of(member):
                if not self._server.is_gone(member):
                    self._server.note(addressee_of(member), Note("-", group, member))
                return
            self._server.groups[group].pop(member, None)
            self._tell(tell, Note("-", group, member))

    def _tell(self, process: str, note: Note) -> None:
        if process and self._publishes:
            self._server.publish_to(process, "note", "", note)
        elif process:
            self._server.note(process, note)

    async def group_send(self, shard: Shard, group: str, payload: bytes, skip: str = "") -> GroupSent:
        with self._server.lock:
            return self._group_send(self._called("group_send", shard), group, payload, skip, {})

    async def group_send_multiple(
        self, shard: Shard, group: str, payloads: Sequence[bytes], skip: str, excluded: Excluded
    ) -> GroupSent:
        with self._server.lock:
            now = self._called("group_send_multiple", shard)
            sent = [self._group_send(now, group, payload, skip, excluded) for payload in payloads]
            return GroupSent(*(sum(each[n] for each in sent) for n in range(4)))  # type: ignore[misc]

    def _group_send(self, now: float, group: str, payload: bytes, skip: str, excluded: Excluded) -> GroupSent:
        with self._server.lock:
            server, members = self._server, self._server.groups[group]
            for member in [member for member, until in members.items() if until <= now]:
                del members[member]
            by_inbox: dict[str, list[str]] = {}
            left_out = {part + name for part, names in excluded.items() for name in names}
            for member in sorted(members.keys() - left_out):
                by_inbox.setdefault(non_local(member) if "!" in member else member, []).append(member)
            reached = full = dead = expired = 0
            by_inbox.pop(f"@{skip}!", None)
            for inbox, names in by_inbox.items():
                entry = self._entry(now, names, payload)
                is_machine = inbox.startswith("@")
                if is_machine and not server.is_gone(inbox):
                    to_group, t = entry._replace(names=()), round(members[inbox] * 1000)
                    capacity = self._context.policy.capacity_for(inbox)
                    has_room, dropped = server.append(inbox[:-1], to_group, capacity, group, t)
                    reached, full, expired = reached + has_room, full + (not has_room), expired + dropped
                elif "!" in inbox and not is_machine and self._publishes:
                    if server.publish_to(process_of(inbox), "added", group, entry):
                        reached += len(names)
                    else:
                        dead += len(names)
                elif "!" in inbox and server.is_gone(inbox):
                    dead += len(names)
                    for name in names:
                        del members[name]
                else:
                    has_room, dropped = server.store(inbox, entry, self._context.policy.capacity_for(inbox))
                    reached, full = reached + has_room * len(names), full + (not has_room) * len(names)
                    expired += dropped
            if self._publishes:
                entry = self._entry(now, ["!"], payload)
                reached += server.publish(lambda each: group in each.groups, "group", group, entry)
            return GroupSent(reached, full, dead, expired)

    async def group_channels(self, shard: Shard, group: str) -> list[str]:
        with self._server.lock:
            now = self._called("group_channels", shard)
            members = [name for name, until in self._server.groups[group].items() if until > now]
            return [name for name in members if "!" not in name or not self._server.is_gone(name)]

    async def ask(self, shard: Shard, group: str, payload: bytes, skip: str, expiry: float) -> int:
        with self._server.lock:
            now = self._called("ask", shard)
            server, asked = self._server, 0
            for inbox, until in server.groups[group].items():
                if inbox.startswith("@") and inbox != f"@{skip}!" and until > now and not server.is_gone(inbox):
                    entry = self._entry(now, (), payload, expiry)
                    asked += server.append(inbox[:-1], entry, 10_000, group, round(until * 1000))[0]
            if self._publishes:
                entry = self._entry(now, ["!"], payload, expiry)
                asked += server.publish(lambda each: group in each.groups, "group", group, entry)
            return asked

    async def register(self, shard: Shard, group: str, machine: str, life: float, forgotten: int) -> Registration:
        with self._server.lock:
            now = self._called("register", shard)
            t = self._server.register(group, f"@{machine}", life, forgotten)
            return Registration(t, t / 1000 - now, self._server.epoch)

    async def forget(self, shard: Shard, group: str, machine: str, t: int) -> None:
        with self._server.lock:
            self._called("forget", shard)
            members = self._server.groups[group]
            if round(members.get(f"@{machine}!", 0.0) * 1000) == t:
                del members[f"@{machine}!"]

    async def renew_machine(
        self, shard: Shard, machine: str, life: float, view: View, registration: int
    ) -> MachineRenewal:
        with self._server.lock:
            now = self._called("renew_machine", shard)
            server, name = self._server, f"@{machine}"
            held = server.machines.get(name)
            is_known = held is not None and server.alive.get(name, 0.0) > now
            if held is not None and is_known and held.registration == view.registration and server.run == view.run:
                registration = held.registration
            server.machines[name] = AliveKey(registration, max(1, view.inboxes))
            server.alive[name] = now + life
            return MachineRenewal(server.run, server.streams[name].last, server.epoch, registration)

    def stream(self, shard: Shard, machine: str) -> MemoryStreamReader:
        server, name = self._server, f"@{machine}"
        block_time = self._context.options.block_time
        return MemoryStreamReader(lambda: server.streams[name], server.add_reader, server.remove_reader, block_time)

    async def trim(self, shard: Shard, machine: str, position: Position) -> None:
        with self._server.lock:
            self._called("trim", shard)
            self._server.streams[f"@{machine}"].trim(position)

    async def counters(self, shard: Shard, report: Report | None) -> Mapping[str, int]:
        with self._server.lock:
            self._called("counters", shard)
            self._server.add_report(report)
            return dict(self._server.counts)

    async def queue_state(self, shard: Shard, channel: str) -> QueueState:
        with self._server.lock:
            now_ms = self._called("queue_state", shard) * 1000
            queue = self._server.queues[non_local(channel) if "!" in channel else channel]
            stamps = [entry.stamp_ms for entry in queue if entry.stamp_ms > now_ms]
            fields = {key: f"{key}|{channel}" for key in ("sent", "full")}
            counts = {key: self._server.counts[field] for key, field in fields.items() if field in self._server.counts}
            return QueueState(len(stamps), (stamps[0] - now_ms) / 1000 if stamps else None, counts)

    async def renew(self, shard: Shard, addressee: str, life: float, report: Report | None = None) -> Renewal:
        with self._server.lock:
            self._server.add_report(report)
            now = self._called("renew", shard)
            was_lost = self._server.alive.get(addressee, 0.0) <= now
            self._server.alive[addressee] = now + life
            return Renewal(was_lost, self._server.epoch, self._server.notes.pop(addressee, []))

    async def measure(self, shard: Shard) -> None:
        self._called("measure", shard)

    async def flush(self, shard: Shard) -> None:
        with self._server.lock:
            self._called("flush", shard)
            server = self._server
            server.queues.clear()
            server.groups.clear()
            server.flushes += 1
            shard.epoch.flushed(server.epoch)
            server.publish(lambda each: True, "flush", "", server.epoch)
            for stream in server.streams.values():
                stream.items.clear()
            for addressee in server.alive:
                server.note(addressee, Note("f", epoch=server.epoch))

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        for state in self._loops.all():
            call_in(state.loop, partial(self._loops.drop, state.loop))


class MemoryChannelLayer(BaseLayer):
    """A layer over a `MemoryStore`, by queues."""

    mode: ClassVar[str] = "queue"

    @takes(LayerOptions)
    def __init__(self, options: LayerOptions) -> None:
        super().__init__(options)
        self.stores: list[MemoryStore] = []

        def open_store(context: Context) -> MemoryStore:
            self.stores.append(MemoryStore(context))
            return self.stores[-1]

        delivery = DeliveryOptions(timeout=5, block_time=2, mode=self.mode)
        self._group_transport = RemoteTransport(partial(Process, self._policy, delivery, ["memory"], open_store))
        self._transports = (self._group_transport,)


class MemoryPubSubChannelLayer(MemoryChannelLayer):
    """The same by pub/sub."""

    mode: ClassVar[str] = "pubsub"
