# SPDX-License-Identifier: BSD-3-Clause
"""One attachment to a segment per process and prefix, shared by all layer objects."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Iterator

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.identity import PerProcess
from hybrid_layer.ipc.objects import Sizes
from hybrid_layer.ipc.segment import LocalSegment
from hybrid_layer.ipc.sweeping import sweep

_segments: dict[str, LocalSegment] = {}
has_swept = False
"""Whether this process, or a parent of it, has removed what other processes left behind."""
_registry: PerProcess[threading.RLock] = PerProcess()
"""The lock of `_segments`. Reentrant: the garbage collector may release a layer while this thread holds it."""


def acquire(prefix: str, sizes: Sizes) -> LocalSegment:
    """The process's attachment to the segment of `prefix`, made at first use. The caller calls `release` after use.

    Raises `ConfigurationError` (other sizes than a segment in use has, files of another user, no room),
    `TooManyProcesses`, `SegmentDamaged`, or `Contended`: the caller tries again.
    """
    global has_swept
    with _registry.get(threading.RLock):
        segment = _segments.get(prefix)
        if segment is None:
            segment = _segments[prefix] = LocalSegment(prefix, sizes)
            if not has_swept:
                has_swept = True
                sweep()  # with the lock held, so that no thread attaches
        elif segment.sizes != sizes:
            raise ConfigurationError(
                f"Two layers of this process use prefix {prefix!r} with different sizes: one has {segment.sizes}, the "
                f"other {sizes}. Use the same sizes, or another prefix."
            )
        # Counted first, since the garbage collector may release the last of the other layers at any moment.
        segment.users += 1
        if _segments.get(prefix) is not segment:  # it did, before that
            return acquire(prefix, sizes)
        try:
            if not segment.is_own():
                segment.join()  # inherited over a fork; the layer object was made in the child
        except BaseException:
            segment.users -= 1
            raise
        return segment


def attached(prefix: str) -> LocalSegment | None:
    """This process's attachment to the segment of `prefix`, if it has any."""
    with _registry.get(threading.RLock):
        segment = _segments.get(prefix)
        return segment if segment is not None and segment.is_own() else None


def all_attached() -> list[LocalSegment]:
    """All attachments of this process."""
    with _registry.get(threading.RLock):
        return [segment for segment in _segments.values() if segment.is_own()]


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Let no thread attach or leave meanwhile."""
    with _registry.get(threading.RLock):
        yield


def release(segment: LocalSegment) -> None:
    """End one use of an attachment. The last one closes it."""
    with _registry.get(threading.RLock):
        segment.users -= 1
        if segment.users > 0 or _segments.get(segment.prefix) is not segment:
            return
        del _segments[segment.prefix]
        # With the lock held: closing descriptors would drop record locks that another attachment takes meanwhile.
        segment.close()


@atexit.register
def _close_all() -> None:
    for segment in list(_segments.values()):
        if segment.is_own():
            segment.close()
    _segments.clear()
