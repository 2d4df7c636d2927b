# SPDX-License-Identifier: BSD-3-Clause
"""The segments of this machine, of any prefix, user and layout, and how to open one for reading only."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.ipc import _core, attachments, objects
from hybrid_layer.ipc.segment import LocalSegment

_NAME = re.compile(r"hybrid_layer\.(\d+)\.([0-9a-f]{16})\.(\d+)")


class SegmentFile(NamedTuple):
    """A segment of this machine, as far as this user may look."""

    name: str
    user: int
    """Its owner's user id."""
    layout: int
    """The version of what is in it; `_core.LAYOUT_VERSION` is ours. Segments of another layout are not read."""
    digest: str
    """`hybrid_layer.ipc.objects.digest` of its prefix."""
    prefix: str | None
    """None: it is another user's, of another layout, or damaged."""
    size: int | None
    """Bytes that it takes on /dev/shm; None if the system does not say."""
    is_inhabited: bool | None
    """Whether a process uses it; None if this user may not ask."""
    processes: int | None
    """How many; None if this user may not ask, or it is of another layout."""


def segments() -> list[SegmentFile]:
    """All segments of this machine, by name. Root sees what is in those of other users, too."""
    try:
        entries = os.listdir(objects.ROOT)
    except OSError:
        return []
    names = sorted({entry.removesuffix(".d") for entry in entries})
    with attachments.kept():
        own = {segment.name: segment for segment in attachments.all_attached()}
        return [_describe(name, match, own.get(name)) for name in names if (match := _NAME.fullmatch(name))]


def _describe(name: str, match: re.Match[str], attachment: LocalSegment | None) -> SegmentFile:
    user, digest, layout = int(match[1]), match[2], int(match[3])
    prefix, processes, is_inhabited = None, None, None
    try:
        if layout == _core.LAYOUT_VERSION:
            file, core = observe(name, attachment, of_any_user=True)
            prefix, processes = core.prefix, sum(alive for *_, alive in core.processes())
            is_inhabited = processes > 0
            if attachment is None:
                file.close()
        else:
            is_inhabited = objects.is_inhabited(name)
    except (OSError, HybridLayerError, _core.Damaged):
        pass  # it is said that this is not known
    return SegmentFile(name, user, layout, digest, prefix, _size(name), is_inhabited, processes)


def _size(name: str) -> int | None:
    if _core.PORTABLE:
        return None
    try:
        return os.lstat(objects.ROOT / name).st_blocks * 512
    except FileNotFoundError:
        return 0  # there is only a directory
    except OSError:
        return None


def observe(
    name: str, attachment: LocalSegment | None, *, of_any_user: bool = False
) -> tuple[objects.Descriptor, _core.Observer]:
    """Open the segment `name` for reading only. Returns the file with its processes' record locks, too.

    The caller closes the file, unless this process has an `attachment`: then it is that one's. Raises
    `FileNotFoundError`, `_core.Damaged`, `OSError`, and `ConfigurationError` if it is another user's. Call it within
    `attachments.kept`.
    """
    if attachment is not None and not _core.PORTABLE:
        bearer = attachment.lock_bearer()
        return bearer, _core.Observer(bearer.fd, bearer.fd, attachment.core.slot + 1)
    fd = objects.open_object(name, read_only=True, of_any_user=of_any_user)
    if fd is None:
        raise FileNotFoundError(name)
    if not _core.PORTABLE:
        try:
            return objects.Descriptor(fd), _core.Observer(fd, fd, 0)
        except BaseException:
            os.close(fd)
            raise
    try:
        return _observe_portable(name, fd, attachment)
    finally:
        os.close(fd)  # it is mapped


def _observe_portable(name: str, fd: int, attachment: LocalSegment | None) -> tuple[objects.Descriptor, _core.Observer]:
    if attachment is not None:
        bearer = attachment.lock_bearer()
        return bearer, _core.Observer(fd, bearer.fd, attachment.core.slot + 1)
    file = objects.Descriptor(os.open(objects.lock_bearer(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    try:
        return file, _core.Observer(fd, file.fd, 0)
    except BaseException:
        file.close()
        raise


def not_found(prefix: str) -> str:
    """Says that there is no segment of `prefix`, and who has one."""
    text = f"No process of user {os.geteuid()} uses the channel layer prefix {prefix!r} on this machine"
    others = [each for each in segments() if each.digest == objects.digest(prefix)]
    users = sorted({each.user for each in others} - {os.geteuid()})
    layouts = sorted({each.layout for each in others if each.user == os.geteuid()} - {_core.LAYOUT_VERSION})
    if users:
        text += f", but user {' and '.join(map(str, users))} does: look as that user"
    elif layouts:
        text += ", but another release of hybrid_layer does, with another layout of shared memory: look with that one"
    return f"{text}."
