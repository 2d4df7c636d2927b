# SPDX-License-Identifier: BSD-3-Clause
"""Redis and Valkey as the store: each verb is one script or command."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from hybrid_layer.clock import boottime, seconds
from hybrid_layer.names import machine_of, process_of
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import Entry, GroupSent, MachineRenewal, Outcome, Registration, Sent
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.delivery.store import Take
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.blocking_reader import BlockingReader
from hybrid_layer.remote.redis.connections.stream_reader import StreamReader
from hybrid_layer.remote.redis.connections.subscription import Subscription, Subscriptions
from hybrid_layer.remote.redis.counting import CountingVerbs
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.server.replies import are_texts, is_number, is_scan, is_time
from hybrid_layer.remote.redis.several import milliseconds
from hybrid_layer.remote.redis.wire.entries import published_entry
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.remote.redis.wire.published import Published
from hybrid_layer.remote.redis.wire.stream import read_position, written_position
from hybrid_layer.transport import Position, View

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_SCANNED_AT_ONCE = 1000
_MOST_ALONE = 10_000


class RedisStore(CountingVerbs):
    """Implements `hybrid_layer.remote.delivery.store.Store`."""

    def __init__(self, context: Context, hosts: Sequence[Host]) -> None:
        super().__init__(context, hosts)
        self._alone: set[str] = set()
        """Groups that had members on this machine only, when the last message was sent to them."""
        self._subscriptions = Subscriptions(context)

    async def send(
        self, shard: Shard, channel: str, payload: bytes, capacity: int, expiry: float | None = None
    ) -> Sent:
        knowledge, names = self._known[shard.number], self._places(shard, channel)
        asked, known = boottime(), knowledge.for_scripts()
        own_life = () if expiry is None else (milliseconds(expiry),)
        args = (payload, channel, capacity, self._context.expiry_ms, known, *own_life)
        outcome, expired, epoch, now_ms = await self._run(shard, scripts.SEND, names, *args)
        shard.clock.measured(now_ms / 1000, asked)
        if epoch != shard.epoch.snapshot[0]:
            shard.epoch.meet(epoch)
        if outcome == 0:
            knowledge.ran(known, asked)
        return Sent(_OUTCOMES[outcome], expired)

    async def put_back(self, shard: Shard, channel: str, entry: Entry, left: float) -> None:
        keys = self._keys[shard.number]
        left_ms = max(1, math.ceil(left * 1000))
        places = [keys.queue(channel), keys.epoch]
        await self._run(shard, scripts.PUT_BACK, places, entry.raw, entry.epoch, left_ms)

    def reader(self, shard: Shard, notes_of: str = "") -> BlockingReader:
        host, keys = self._hosts[shard.number], self._keys[shard.number]
        return BlockingReader(host, keys, shard, self._context.options, notes_of, self.connections)

    async def publish(self, shard: Shard, channel: str, payload: bytes, expiry: float | None = None) -> int:
        keys, expiry_ms = self._keys[shard.number], self._context.expiry_ms
        if expiry is not None:
            expiry_ms = milliseconds(expiry)
        # Most messages are published without a script, which would double the server's cost. Then the stamp is made
        # here, and a flush is recognized by its place among the messages. Not in a cluster: a node that was replaced
        # refuses a script, but would publish to nobody.
        stamp = None if keys.tag else shard.clock.stamp(expiry_ms)
        name = keys.process(process_of(channel))
        if stamp is not None:
            entry = published_entry(stamp, channel, payload)
            receivers: int = await self.connections.run(shard.number, ("PUBLISH", name, entry), is_number)
            return receivers
        asked = boottime()
        receivers, epoch, *now = await self._run(
            shard, scripts.PUBLISH, [name, keys.epoch], payload, channel, expiry_ms
        )
        shard.epoch.meet(epoch)
        shard.clock.measured(seconds(now), asked)
        shard.clock.may_stamp(asked)
        return receivers

    def subscription(self, shard: Shard, take: Take, on_idle: Callable[[], None]) -> Subscription:
        published = Published(self._keys[shard.number], self._context.name)
        return self._subscriptions.new(self._hosts[shard.number], published, take, on_idle)

    async def mark(self, shard: Shard, mark: bytes) -> None:
        published = Published(self._keys[shard.number], self._context.name)
        command = (published.verbs.publish, published.own_names[0], b"m|" + mark)
        await self.connections.run(shard.number, command)

    async def group_add(
        self, shard: Shard, group: str, member: str, life: float, tell: str = "", how: str = "add"
    ) -> bool:
        if machine_of(member):
            return await self._add_on_machine(shard, group, member, life)
        keys = self._keys[shard.number]
        notes, names = self._notifying(keys, tell)
        alive, first = ([keys.alive(tell)], [shard.epoch.first]) if tell else ([], [])
        places = [keys.group(group), keys.epoch, keys.parts(group), *alive, *notes]
        life_ms = milliseconds(life)
        added, epoch = await self._run(shard, scripts.GROUP_ADD, places, member, life_ms, how, group, *first, *names)
        shard.epoch.meet(epoch)
        return bool(added)

    async def group_discard(self, shard: Shard, group: str, member: str, tell: str = "") -> None:
        keys, machine = self._keys[shard.number], machine_of(member)
        if machine:
            await self._tell(shard, f"@{machine}", f"-|{group}|{member}".encode())
            return
        notes, names = self._notifying(keys, tell)
        args = (member, group, keys.parts(group), *names)
        await self._run(shard, scripts.GROUP_DISCARD, [keys.group(group), *notes], *args)

    async def _add_on_machine(self, shard: Shard, group: str, channel: str, life: float) -> bool:
        keys, inbox = self._keys[shard.number], f"@{machine_of(channel)}!"
        places = [keys.group(group), keys.epoch, keys.parts(group), keys.alive(inbox[:-1]), keys.inbox(inbox)]
        life_ms = milliseconds(life)
        capacity = self._context.policy.capacity_for(channel)
        args = (channel, life_ms, 2 * life_ms, group, shard.epoch.first, inbox, capacity)
        added, epoch = await self._run(shard, scripts.MACHINE_ADD, places, *args)
        shard.epoch.meet(epoch)
        return bool(added)

    def _notifying(self, keys: Keys, process: str) -> tuple[list[str], list[str]]:
        """The keys and the arguments by which a script notifies `process` of its membership; none for ""."""
        if not process:
            return [], []
        return ([], [keys.process(process)]) if self._publishes else ([keys.notes(process)], [])

    async def group_send(self, shard: Shard, group: str, payload: bytes, skip: str = "") -> GroupSent:
        keys, knowledge, expiry_ms = self._keys[shard.number], self._known[shard.number], self._context.expiry_ms
        if group in self._alone and skip and await self._is_alone(shard, group, skip):
            return GroupSent(0, 0, 0, 0)
        options: tuple[str | int, ...]
        script, options = scripts.GROUP_SEND, (self._is_spread, f"@{skip}!" if skip else "")
        if self._publishes:
            # With a stamp, the script need not read clock and epoch, which is more than half of its work.
            stamp = shard.clock.stamp(expiry_ms) or ""
            script, options = scripts.GROUP_PUBLISH, (group, *options, stamp)
        places, (capacity, capacities) = [keys.group(group), keys.epoch], self._capacities.of(group)
        while True:
            asked, known = boottime(), knowledge.for_scripts()
            args = (payload, expiry_ms, capacity, keys.base, *options, *capacities, known)
            reply = await self._run(shard, script, places, *args)
            if isinstance(reply, int):
                return GroupSent(reply, 0, 0, 0)
            if reply[0] != -1:
                break
            capacities = self._capacities.learn(group, reply[1:])
        if reply[4] != shard.epoch.snapshot[0]:
            shard.epoch.meet(reply[4])
        if reply[5]:
            shard.clock.measured(reply[5] / 1000, asked)
            shard.clock.may_stamp(asked)
            knowledge.ran(known, asked)
        else:  # the script had nothing to do, and has prolonged nothing
            self._note_alone(group)
        reached, full, dead, expired = reply[:4]
        elsewhere = [name.decode("ascii", "replace") for name in reply[6]] if len(reply) > 6 else ()
        return GroupSent(reached, full, dead, expired, elsewhere)

    async def _is_alone(self, shard: Shard, group: str, machine: str) -> bool:
        """Whether `machine` alone has members of `group`, as it had at the last message.

        Even a script that does nothing costs the server twice as much as this command. Where others have joined, the
        message takes one round trip more, once.
        """
        command = ("ZRANGE", self._keys[shard.number].group(group), 0, 1)
        found = await self.connections.run(shard.number, command, are_texts)
        if all(member == f"@{machine}!".encode() for member in found):
            return True
        self._alone.discard(group)
        return False

    def _note_alone(self, group: str) -> None:
        if len(self._alone) >= _MOST_ALONE:
            self._alone.clear()
        self._alone.add(group)

    async def register(self, shard: Shard, group: str, machine: str, life: float, forgotten: int) -> Registration:
        keys, life_ms = self._keys[shard.number], milliseconds(life)
        places = [keys.group(group), keys.epoch, keys.parts(group)]
        asked, args = boottime(), (f"@{machine}!", life_ms, forgotten)
        t, epoch, now_ms = await self._run(shard, scripts.REGISTER, places, *args)
        shard.clock.measured(now_ms / 1000, asked)
        shard.epoch.meet(epoch)
        return Registration(t, (t - now_ms) / 1000 - (boottime() - asked), epoch)

    async def forget(self, shard: Shard, group: str, machine: str, t: int) -> None:
        keys = self._keys[shard.number]
        await self._run(shard, scripts.FORGET, [keys.group(group)], f"@{machine}!", t, keys.parts(group))

    async def renew_machine(
        self, shard: Shard, machine: str, life: float, view: View, registration: int
    ) -> MachineRenewal:
        keys, name = self._keys[shard.number], f"@{machine}"
        places = [keys.alive(name), keys.inbox(f"{name}!"), keys.epoch, keys.alive("")]
        known, run = self._known[shard.number].of_clock(), f"{view.run:016x}" if view.run else ""
        has_met = "1" if shard.epoch.first else "0"
        args = (int(life * 1000), has_met, known, view.registration, run, registration, max(1, view.inboxes))
        asked = boottime()
        found, run_now, last, epoch, *time = await self._run(shard, scripts.RENEW_MACHINE, places, *args)
        shard.clock.measured(seconds(time), asked)
        return MachineRenewal(int(run_now or b"0", 16), read_position(last) or Position(0, 0), epoch, int(found))

    def stream(self, shard: Shard, machine: str) -> StreamReader:
        host, keys = self._hosts[shard.number], self._keys[shard.number]
        return StreamReader(host, keys, shard, self._context.options, machine)

    async def trim(self, shard: Shard, machine: str, position: Position) -> None:
        key = self._keys[shard.number].inbox(f"@{machine}!")
        await self.connections.run(shard.number, ("XTRIM", key, "MINID", written_position(position)), is_number)

    async def measure(self, shard: Shard) -> None:
        asked = boottime()
        time = await self.connections.run(shard.number, ("TIME",), is_time)
        shard.clock.measured(seconds(time), asked)

    async def flush(self, shard: Shard) -> None:
        # The keys are deleted first, and the epoch advances last. A process that has read a message before the flush
        # drops it on meeting the new epoch, of which all live processes are notified.
        keys, number, run = self._keys[shard.number], shard.number, self.connections.run
        living: set[str] = set()
        cursor = b"0"
        if keys.tag:
            # SCAN names no key, so a node that has lost the slot would return an empty result. EXISTS is refused there.
            await run(number, ("EXISTS", f"{keys.base}nobody"))
        while True:
            command = ("SCAN", cursor, "MATCH", keys.scan_pattern(), "COUNT", _SCANNED_AT_ONCE)
            cursor, found = await run(number, command, is_scan)
            names = [name.decode("ascii", "replace") for name in found]
            living.update(filter(None, map(keys.addressee_of_alive, names)))
            streams = [name for name in names if keys.is_stream(name)]
            doomed = [name for name in names if keys.is_data(name) and not keys.is_stream(name)]
            if doomed:
                await run(number, ("UNLINK", *doomed))
            if streams:
                await self._run(shard, scripts.EMPTY_STREAMS, streams)
            if cursor == b"0":
                break
        subscribed = [keys.epoch] if self._publishes else []
        epoch = await self._run(shard, scripts.FLUSH, [keys.epoch], *subscribed)
        shard.epoch.flushed(epoch)
        note = b"f|" + epoch
        await asyncio.gather(*(self._tell(shard, name, note) for name in living))

    async def _tell(self, shard: Shard, addressee: str, note: bytes) -> None:
        """Leave a note for an addressee, a process or ``@MACHINE``."""
        keys = self._keys[shard.number]
        if addressee.startswith("@"):
            places = [keys.inbox(f"{addressee}!"), keys.alive(addressee), keys.epoch]
            await self._run(shard, scripts.MACHINE_NOTE, places, note, self._context.policy.capacity)
        else:
            await self._run(shard, scripts.NOTE, [keys.notes(addressee)], note)

    async def close(self) -> None:
        await self.connections.close()

    def abort(self) -> None:
        self.connections.abort()
