# SPDX-License-Identifier: BSD-3-Clause
"""The C core: one process's view of one shared segment. Methods are described beside their C functions."""

from hybrid_layer.transport import Excluded

LAYOUT_VERSION: int
SLOTS: int
LOOPS: int
COUNTERS: int
"""Counters of one half: those of the local one come first, then those of the remote one."""
REMOTE_SHARDS: int
PORTABLE: bool
"""The build for systems other than Linux: the record locks lie on the lock file, and there is no /dev/shm."""

class Busy(Exception):
    """The segment's lock was not had within 50 ms."""

class Damaged(Exception):
    """The segment held something impossible. It is repaired by whoever takes its lock next."""

class Detached(Exception):
    """This process holds no slot: it is a forked child, or has left."""

class Full(Exception):
    """The channel is at capacity."""

class Gone(Exception):
    """The inbox is not there, or not this process's."""

class NoMemory(Exception):
    """What is full is its only argument: "message_memory", "group_memory" or "system" (/dev/shm)."""

class NoSlot(Exception):
    """All slots, or all loops of this process's slot, are taken."""

class Retired(Exception):
    """The processes of this segment have moved to another one, or this one has lost its descriptor: attach anew."""

class Stale(Exception):
    """The loop has no place in this attachment, or no longer: it was opened in another one, or was closed."""

def format(
    fd: int,
    lock_fd: int,
    message_bytes: int,
    group_bytes: int,
    prefix: str,
    project: str,
    machine: str,
    seed: tuple[int, int],
    is_successor: bool = False,
    bequeathed: bytes | None = None,
    /,
) -> None:
    """A successor's predecessor may have bequeathed what `bequeath` returned."""

def record_lock_pid(fd: int, /) -> int:
    """The process that holds the record lock on a file's first byte; 0: none, or one of another pid namespace."""

def is_inhabited(fd: int, /) -> bool:
    """Whether another process lives in the segment whose record locks are on this file, of any layout version."""

class Observer:
    """A look at a segment without a slot in it: maps it for reading only, takes no lock, holds nobody up."""

    def __init__(self, fd: int, lock_fd: int, own_slot: int, /) -> None:
        """`own_slot`: 1 more than the slot that this process has in the segment, 0 if it has none."""
    @property
    def message_bytes(self) -> int: ...
    @property
    def group_bytes(self) -> int: ...
    @property
    def machine(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def retired(self) -> bool: ...
    @property
    def rebuilds(self) -> int: ...
    @property
    def lock_word(self) -> int: ...
    @property
    def progress(self) -> int: ...
    def channels(self, bucket: int, /) -> tuple[int | None, list[tuple[str, int, int, int, float, bool, list[int]]]]:
        """The next bucket, and of each channel: name, slot and generation of an inbox's owner (-1: a normal channel),
        unread messages, age of the oldest, whether it was read, and the slot of each event loop that waits."""
    def members(self, bucket: int, /) -> tuple[int | None, list[tuple[str, str, float]]]:
        """The next bucket, and of each membership: group, channel, seconds left."""
    def areas(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Of messages and groups: bytes in use, backed by memory, at most."""
    def peek(self, channel: str, most: int, body: bool, /) -> list[tuple[str, int, float, float, bool, bytes | None]]:
        """Of each message: what follows the "!" of its channel, size, age, seconds left, whether it went to a group,
        payload."""
    def counters(self) -> list[int]: ...
    def remote_counters(self) -> list[int]: ...
    def waits(self) -> tuple[list[int], float]: ...
    def tallies(self) -> list[tuple[str, int, int, int, int]]:
        """Name, capacity, sent, received, full; at the end, with the name "", of all others together."""
    def processes(self) -> list[tuple[int, int, int, bool]]: ...

class Segment:
    """Methods that may wake somebody return a bit for each event loop of this process that has to be woken by hand;
    loops of other processes have been rung."""

    def __init__(self, fd: int, lock_fd: int, directory: str, /) -> None: ...
    @property
    def epoch(self) -> int: ...
    @property
    def rebuilds(self) -> int: ...
    @property
    def lock_word(self) -> int: ...
    @property
    def progress(self) -> int: ...
    @property
    def retired(self) -> bool: ...
    @property
    def attached(self) -> bool: ...
    @property
    def slot(self) -> int: ...
    @property
    def message_bytes(self) -> int: ...
    @property
    def group_bytes(self) -> int: ...
    @property
    def machine(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    def push(self, channel: str, local: str, payload: bytes, capacity: int, expiry_ns: int, /) -> int: ...
    def push_several(
        self, channel: str, local: str, payloads: tuple[bytes, ...], capacity: int, expiry_ns: int, /
    ) -> tuple[int, int]:
        """Loops to wake, and how many are stored: the first ones. The next one has to be pushed by itself."""
    def pop(self, channel: str, loop: int, /) -> tuple[bytes | None, int, bool]: ...
    def drain(self, inbox: str, loop: int, /) -> tuple[list[tuple[list[str], bytes, float]], bool]: ...
    def open_inbox(self, name: str, /) -> None: ...
    def close_inbox(self, name: str, /) -> None: ...
    def wait(self, channel: str, loop: int, /) -> None: ...
    def unwait(self, channel: str, loop: int, /) -> int: ...
    def group_add(self, group: str, target: str, local: str, expiry_ns: int, /) -> int:
        """The epoch of the membership."""
    def group_join(self, group: str, target: str, local: str, expiry_ns: int, shard: int, /) -> tuple[bool, bool, int]:
        """Whether the membership is new, whether the group's record is valid until it ends, and the epoch."""
    def group_restore(self, group: str, target: str, local: str, expiry_ns: int, epoch: int, /) -> None:
        """The same for a membership of this epoch that the segment has lost, or that was in another one."""
    def group_discard(self, group: str, target: str, local: str, /) -> None: ...
    def group_send(
        self, group: str, payload: bytes, capacity: int, capacities: dict[str, int], expiry_ns: int, /
    ) -> tuple[int, int, str]:
        """Loops to wake, how many queues were at capacity, and the id of the machine whose segment this is."""
    def group_send_several(
        self,
        group: str,
        payloads: tuple[bytes, ...],
        capacity: int,
        capacities: dict[str, int],
        expiry_ns: int,
        excluded: Excluded,
        /,
    ) -> tuple[int, int, str, int]:
        """As `group_send`, and how many are sent: the first ones. A large one must be alone. `excluded` is a dict of
        tuples; an inbox gets no entry if all its members are excluded, else whoever drains it leaves them out."""
    def group_targets(self, group: str, /) -> list[str]: ...
    def group_members(self, group: str, target: str, ends: bool, /) -> list[str]:
        """The members among the channels of one target: what follows it. `ends`: they are none any more."""
    def open_loop(self) -> int:
        """An event loop's place in the slot: no loop of this process is ever given the same number again, in whatever
        segment. Modulo `LOOPS`, it is the loop's bit. Where another method takes one, -1 is none."""
    def close_loop(self, loop: int, /) -> int: ...
    def collect(self, loop: int, sleep: bool, /) -> list[str] | None: ...
    def repoll(self, loop: int, /) -> None: ...
    def doorbell(self, loop: int, /) -> str: ...
    def flush(self) -> None: ...
    def join(self) -> None: ...
    def leave(self) -> None: ...
    def is_deserted(self) -> bool: ...
    def is_needed(self) -> bool: ...
    def lost(self) -> str | None: ...
    def count(self, counter: int, number: int, /) -> None: ...
    def counters(self) -> list[int]: ...
    def remote_counters(self) -> list[int]: ...
    def state(self, channel: str, /) -> tuple[int, float, int | None, int | None]:
        """Unread messages, age of the oldest in seconds, how many were sent, and how many met a full channel."""
    def check(self) -> tuple[str, list[int]]: ...
    def processes(self) -> list[tuple[int, int, int, bool]]: ...
    def retire(self) -> int | None: ...
    def take_repairs(self) -> tuple[int, int]: ...
    def take_unread(self) -> str | None: ...
    def meet_remote_flush(self, shard: int, incarnation: int, flushes: int, /) -> bool: ...
    def record(self, group: str, shard: int, turn: int, registration: int, t: int, life_ns: int, /) -> None: ...
    def forget(self, group: str, shard: int, t: int, /) -> bool: ...
    def groups(self, place: int, /) -> tuple[int | None, list[tuple[str, int, int, float]]]:
        """The next place, and each group's name, shard, t, and seconds without a member."""
    def has_groups(self) -> bool: ...
    def look(self, shard: int, /) -> tuple[tuple[int, int] | None, int, int, int, int, int, int, int, int]:
        """The fields of a `View`, but for the machine."""
    def renewed(
        self,
        shard: int,
        turn: int,
        ms: int | None,
        sequence: int | None,
        registration: int,
        run: int,
        last_ms: int,
        last_sequence: int,
        incarnation: int,
        flushes: int,
        new_registration: int,
        /,
    ) -> None: ...
    def put(
        self,
        machine: str,
        shard: int,
        turn: int,
        ms: int,
        sequence: int,
        incarnation: int,
        flushes: int,
        kind: int,
        life_ns: int,
        group: str,
        channel: str,
        local: str,
        t: int,
        payload: bytes,
        capacity: int,
        capacities: dict[str, int],
        excluded: Excluded,
        /,
    ) -> tuple[int, int, int, bool]:
        """The outcome, loops to wake, how many queues were at capacity, and whether there will never be room."""
    def walked(self, shard: int, registration: int, /) -> None: ...
    def void(self, shard: int, /) -> None: ...
    def leases(self, shards: int, /) -> list[int]: ...
    def take_lease(self, shard: int, seen: int, /) -> int: ...
    def drop_lease(self, shard: int, seen: int, /) -> None: ...
    def outages(self, shards: int, /) -> list[int]: ...
    def set_outage(self, shard: int, is_lost: bool, /) -> None: ...
    def bequeath(self) -> bytes:
        """What the successor of this segment, which is retired, begins with. The lock is waited for up to 50 ms."""
    def continue_epoch(self, epoch: int, /) -> None: ...
