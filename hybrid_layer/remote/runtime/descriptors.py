# SPDX-License-Identifier: BSD-3-Clause
"""The sockets that this process has open to servers, so that a forked child can let go of them without harm.

A child must neither write to an inherited socket nor close it through its event loop: the child shares the loop's
selector with the parent, which would stop listening. So the child puts /dev/null in the socket's place. Objects of the
parent that still refer to the descriptor then close /dev/null.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import weakref

from hybrid_layer import identity

_open: weakref.WeakKeyDictionary[object, tuple[int, tuple[int, int]]] = weakref.WeakKeyDictionary()
"""Descriptors by owner, each with device and inode: a child that notices the fork late may have other files there."""


def opened(owner: object, descriptor: int) -> None:
    """Remember the socket at `descriptor`, which `owner` has just opened."""
    _open[owner] = (descriptor, _file_at(descriptor))


def closed(owner: object) -> None:
    """Forget the socket of `owner`, which is about to be closed."""
    _open.pop(owner, None)


def discard(owner: object, descriptor: int) -> None:
    """Close the socket of `owner` under the library that uses it. What was not sent yet never arrives."""
    if _open.pop(owner, None) is None:
        return
    drop_unsent(descriptor)
    _replace([descriptor])


def drop_unsent(descriptor: int) -> None:
    """Have the system send nothing more once the socket at `descriptor` is closed."""
    own = socket.socket(fileno=descriptor)
    with contextlib.suppress(OSError):
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    own.detach()


def _file_at(descriptor: int) -> tuple[int, int]:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _replace(found: list[int]) -> None:
    """Put /dev/null in the place of descriptors."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in found:
        os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def _detach() -> None:
    inherited = list(_open.values())
    if inherited:
        _replace([descriptor for descriptor, file in inherited if _file_at(descriptor) == file])
        _open.clear()


identity.in_child(_detach)
