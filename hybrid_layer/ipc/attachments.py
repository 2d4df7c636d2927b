"""One attachment to a segment for each process and prefix, shared by all layer objects that use it."""

from __future__ import annotations

import atexit
import threading

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.identity import PerProcess
from hybrid_layer.ipc.segment import LocalSegment
from hybrid_layer.ipc.sweeping import sweep

_segments: dict[str, LocalSegment] = {}
has_swept = False
"""Whether this process, or one that it was forked from, has looked for what others left."""
_registry: PerProcess[threading.RLock] = PerProcess()
"""Its lock. Reentrant: the garbage collector may release a layer at any allocation, also under this lock."""


def acquire(prefix: str, message_memory: int, group_memory: int) -> LocalSegment:
    """The process's attachment to the segment of `prefix`, made at first use. Give it back with `release`.

    Raises `ConfigurationError` (sizes differ from those of a segment in use; a stranger's files; no room),
    `TooManyProcesses`, `SegmentDamaged`, and `Contended` for who should try again.
    """
    with _registry.get(threading.RLock):
        segment = _segments.get(prefix)
        if segment is None:
            segment = _segments[prefix] = LocalSegment(prefix, message_memory, group_memory)
            _sweep_once()
        elif (segment.message_memory, segment.group_memory) != (message_memory, group_memory):
            raise ConfigurationError(
                f"Two layers of this process use prefix {prefix!r} with different sizes: message_memory="
                f"{segment.message_memory} and {message_memory}, group_memory={segment.group_memory} and "
                f"{group_memory}."
            )
        # Counted first: a collection may release the last of the other layers at any moment.
        segment.users += 1
        if _segments.get(prefix) is not segment:  # just before that
            return acquire(prefix, message_memory, group_memory)
        try:
            if not segment.is_own():
                segment.join()  # inherited over a fork, by a layer object that the child has made
        except BaseException:
            segment.users -= 1
            raise
        return segment


def _sweep_once() -> None:
    """Remove what processes of other prefixes left. Called with the registry's lock, so nobody attaches meanwhile."""
    global has_swept
    if not has_swept:
        has_swept = True
        sweep()


def release(segment: LocalSegment) -> None:
    """Give an attachment back; the last one leaves the segment."""
    with _registry.get(threading.RLock):
        segment.users -= 1
        if segment.users > 0 or _segments.get(segment.prefix) is not segment:
            return
        del _segments[segment.prefix]
        # Under the lock: closing descriptors here would drop the record locks that the next attachment takes meanwhile.
        segment.close()


@atexit.register
def _close_all() -> None:
    for segment in list(_segments.values()):
        if segment.is_own():
            segment.close()
    _segments.clear()
