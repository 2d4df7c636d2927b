# SPDX-License-Identifier: BSD-3-Clause
"""The identity of the calling process, state that belongs to one process, and random ids for names.

A forked child must not use its parent's state, or each would read the other's messages. It must not even use the locks
of inherited state. So such state is in a `PerProcess`, or checks the `Identity` of its process before each use.

Some servers fork in C (uWSGI), and then none of Python's hooks runs. So an identity is a page of memory that the kernel
wipes in a child. Reading it costs as much as comparing two objects. Systems other than Linux compare pids.
"""

from __future__ import annotations

import base64
import mmap
import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

_WIPE_ON_FORK = 18  # MADV_WIPEONFORK of Linux >= 4.14


class _Page(Protocol):
    def __getitem__(self, index: int, /) -> int: ...


class _PageByPid:
    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return os.getpid() == self._pid


def _page() -> _Page:
    if sys.platform == "win32":
        return b"\x01"  # there is no fork
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            page.madvise(_WIPE_ON_FORK)
        except OSError:
            page.close()
        else:
            page[0] = 1
            return page
    return _PageByPid()


class Identity:
    """One process. Compare by object identity only."""

    __slots__ = ("lock", "page")

    def __init__(self) -> None:
        self.page = _page()
        """``page[0]`` is 1 in this process and 0 in its children. For checks on every message."""
        self.lock = threading.RLock()
        """Held while something is made once for this process. Reentrant, since users' code may be called meanwhile."""

    def is_current(self) -> bool:
        """Whether the caller runs in this process, not in a child of it."""
        return self.page[0] == 1


_own = Identity()
_in_child: list[Callable[[], None]] = []
_renewing: dict[int, threading.RLock] = {}
"""Locks by pid, since another thread of the parent may have held the parent's lock at the fork."""


def this_process() -> Identity:
    """The identity of the calling process. The first call in a forked child runs the functions given to `in_child`."""
    if not _own.page[0]:
        _renew()
    return _own


_PAGE_OF_NONE: _Page = b"\x00"
_inherited: list[object] = []
"""Values of parents, kept alive in their children: destroying one could touch what the parent still uses."""


class PerProcess(Generic[T]):
    """Holds one `T` per process, made at first use. A forked child makes its own. Any thread may use it."""

    __slots__ = ("last", "page")

    def __init__(self) -> None:
        self.page = _PAGE_OF_NONE
        """``page[0]`` is 1 if `last` belongs to this process. For checks on every message, without a call."""
        self.last: T | None = None
        """The last value, made by this process or by a parent. A child must not use a lock of its parent's value."""

    def peek(self) -> T | None:
        """The value of this process, or None before the first `get`."""
        return self.last if self.page[0] else None

    def get(self, make: Callable[[], T]) -> T:
        """The value of this process, made by `make()` if there is none yet. Raises what `make` raises."""
        value = self.peek()
        if value is None:
            here = this_process()
            with here.lock:
                value = self.peek()
                if value is None:
                    value = make()
                    if self.last is not None:
                        _inherited.append(self.last)
                    self.last = value
                    self.page = here.page  # last: now other threads find the value
        return value

    def clear(self) -> None:
        """Drop the value: the next `get` makes another one."""
        self.page = _PAGE_OF_NONE
        self.last = None


def in_child(renew: Callable[[], None]) -> None:
    """Have each forked child call `renew`: at the fork, or when it notices the fork, before it uses anything here.

    For locks, which another thread may have held at the fork, and for resources that the parent shares.
    """
    _in_child.append(renew)


def _renew() -> None:
    global _own
    with _renewing.setdefault(os.getpid(), threading.RLock()):
        if not _own.page[0]:
            for renew in _in_child:
                renew()
            _own = Identity()  # last: now other threads continue


def random_id() -> str:
    """10 random characters of ``A-Z2-7``: 50 bits, legal in channel names."""
    # 10 bytes are 16 base32 characters without padding; 10 of them are kept to leave room in a name of 99 characters.
    return base64.b32encode(os.urandom(10)).decode("ascii")[:10]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=this_process)
