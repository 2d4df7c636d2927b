"""Which process this is, and random ids for names.

What belongs to one process must not be used by a forked child, or parent and child would read each other's messages.
Whoever keeps such state keeps the `Identity` of its process beside it, and asks that before each use: state that was
inherited over a fork is not even to be locked.

Some servers fork in C (uWSGI), and then no hook of Python runs. So an identity is a page of memory that the kernel
wipes in a child: to read it costs as much as to compare two objects. Where no kernel does that, the pid is asked.
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
    """A process. Compared by object identity only."""

    __slots__ = ("lock", "page")

    def __init__(self) -> None:
        self.page = _page()
        """``page[0]`` is 1 in this process, and 0 in its children. For those that ask for each message."""
        self.lock = threading.RLock()
        """For what is made once in this process; `PerProcess` holds it. Reentrant: making may call code of users."""

    def is_current(self) -> bool:
        """Whether this is the process that runs, not a parent of it."""
        return self.page[0] == 1


_own = Identity()
_in_child: list[Callable[[], None]] = []
_renewing: dict[int, threading.RLock] = {}
"""By pid: a lock that another thread holds at a fork is its parent's."""


def this_process() -> Identity:
    """The identity of the process that runs. The first call in a forked child does what a child has to do."""
    if not _own.page[0]:
        _renew()
    return _own


_PAGE_OF_NONE: _Page = b"\x00"
_inherited: list[object] = []
"""Values of parents, kept alive in their children: to destroy one could touch what its parent still uses."""


class PerProcess(Generic[T]):
    """One `T` per process, made at first use; a forked child makes its own. Any thread may use it."""

    __slots__ = ("_page", "last")

    def __init__(self) -> None:
        self._page = _PAGE_OF_NONE
        self.last: T | None = None
        """The value that was made last, by this process or by a parent: of a parent's, a child may use no lock."""

    def peek(self) -> T | None:
        """The value of this process, None before the first `get`."""
        return self.last if self._page[0] else None

    def get(self, make: Callable[[], T]) -> T:
        """The value of this process, from `make` if there is none. Raises what `make` raises, and then keeps none."""
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
                    self._page = here.page  # last: from here on other threads find the value
        return value

    def clear(self) -> None:
        """Have the next `get` make another value in this process, too."""
        self._page = _PAGE_OF_NONE
        self.last = None


def in_child(renew: Callable[[], None]) -> None:
    """Call `renew` in each forked child, in the fork or when that is noticed: before anything here is used.

    For locks, which another thread may have held at the fork, and for what is shared with the parent.
    """
    _in_child.append(renew)


def _renew() -> None:
    global _own
    with _renewing.setdefault(os.getpid(), threading.RLock()):
        if not _own.page[0]:
            for renew in _in_child:
                renew()
            _own = Identity()  # last: from here on other threads go on


def random_id() -> str:
    """10 characters out of ``A-Z2-7``: 50 random bits, legal in channel names."""
    # 10 bytes are 16 base32 characters without padding; 10 of them are kept to leave room in a name of 99 characters.
    return base64.b32encode(os.urandom(10)).decode("ascii")[:10]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=this_process)
