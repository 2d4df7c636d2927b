"""Namespaces of the kernel, for which Python has functions only from 3.12 on."""

from __future__ import annotations

import ctypes
import os

MOUNTS, PIDS, NETWORK = 0x20000, 0x20000000, 0x40000000
"""Kinds of namespaces, as the kernel numbers them. They may be added up."""
NAMES = {MOUNTS: "mnt", PIDS: "pid_for_children", NETWORK: "net"}
"""What the kinds are called in /proc."""
_MS_REC_PRIVATE = 0x4000 | 0x40000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int) -> None:
    """Move this process to new namespaces. With PIDS, its children. Its mounts are then its own. Raises `OSError`."""
    _must(_libc.unshare(kinds))
    if kinds & MOUNTS:
        _must(_libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None))


def enter(process: int, *kinds: int) -> None:
    """Move this process to namespaces that another one is in; its working directory is lost. Raises `OSError`."""
    # All are opened first: with another /proc, the process has another number.
    opened = [(os.open(f"/proc/{process}/ns/{NAMES[kind]}", os.O_RDONLY | os.O_CLOEXEC), kind) for kind in kinds]
    for fd, kind in opened:
        _must(_libc.setns(fd, kind))
        os.close(fd)


def mount(kind: str, path: str, options: str = "") -> None:
    """Mount a file system that has no device. Raises `OSError`."""
    _must(_libc.mount(kind.encode(), path.encode(), kind.encode(), 0, options.encode()))


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent ends. Raises `OSError`."""
    _must(_libc.prctl(_PR_SET_PDEATHSIG, number))


def _must(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
