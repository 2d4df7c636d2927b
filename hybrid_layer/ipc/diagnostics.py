# SPDX-License-Identifier: BSD-3-Clause
"""Texts for people: which process holds a lock, how large /dev/shm is, which others use a prefix.

Only these use psutil.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Hashable

from hybrid_layer.exceptions import SegmentBusy
from hybrid_layer.ipc import _core
from hybrid_layer.ipc.objects import ROOT, Sizes, is_inhabited
from hybrid_layer.ipc.stall_detector import Contended
from hybrid_layer.statistics import warn


def project_of_this_process() -> str:
    """Django's settings module and base directory. Empty if they are not known."""
    from django.conf import settings

    if not settings.configured:
        return ""
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    base = getattr(settings, "BASE_DIR", "")
    return f"{module} in {base}"[:190] if module and base else ""


def lock_holder(core: _core.Segment | _core.Observer) -> Hashable:
    """Identifies the holder of the segment's lock and its progress, as `Contended.holder` does."""
    return core.lock_word | 1, core.progress


def contended(core: _core.Segment | _core.Observer, prefix: str) -> Contended:
    """The error for a failed try to acquire the lock of the segment of `prefix`."""
    holder = lock_holder(core)
    slot = (core.lock_word >> 1 & 0x7FF) - 1
    pids = [pid for number, _, pid, is_alive in core.processes() if number == slot and is_alive]
    return Contended(f"The segment of prefix {prefix!r}", holder, pids[0] if pids else None)


def busy(contended: Contended) -> SegmentBusy:
    """The error for a lock whose holder is stalled."""
    who = "a process that is starting or ending" if contended.pid is None else process_name(contended.pid)
    return SegmentBusy(
        f"{contended.what} is locked by {who}, which makes no progress. It is stopped or being debugged: "
        "continue or kill it."
    )


def process_name(pid: int) -> str:
    """Describes a process for an error text. A pid of 0 stands for one of another pid namespace."""
    import psutil

    if pid == 0:
        return "a process of another pid namespace (another container)"
    try:
        process = psutil.Process(pid)
        return f"process {pid} ({process.name()}, {process.status()})"
    except psutil.Error:
        return f"process {pid}"


def command_line(pid: int) -> str:
    """The command line of a process, "" if it has ended or the system does not say."""
    import psutil

    try:
        return " ".join(psutil.Process(pid).cmdline())
    except (psutil.Error, OSError):
        return ""


def shm_room() -> str:
    """Size and free space of /dev/shm, in words."""
    import psutil

    if _core.PORTABLE:
        return "as large as memory and swap"
    try:
        usage = psutil.disk_usage(str(ROOT))
    except OSError as error:
        return f"how large it is, the system does not say: {error.strerror}"
    return f"{usage.total >> 20} MiB large with {usage.free >> 20} MiB free"


def other_sizes(core: _core.Segment, prefix: str, wanted: Sizes) -> str:
    """Says why this process cannot use a segment of other sizes, which other processes use."""
    processes = ", ".join(process_name(pid) for _, _, pid, is_alive in core.processes() if is_alive)
    return (
        f"The segment of prefix {prefix!r} has {Sizes(core.message_bytes, core.group_bytes)}, and is used by "
        f"{processes}; this process is configured with {wanted}. Use the same sizes, stop those processes "
        f"first, or use another prefix."
    )


def warn_of_loss(core: _core.Segment, name: str, prefix: str, wanted: Sizes) -> None:
    """Warn that a segment with unread messages is replaced by one of other sizes."""
    warn(
        ("sizes", name),
        f"The segment of prefix {prefix!r}, which no process uses any more, was made with "
        f"{Sizes(core.message_bytes, core.group_bytes)}. It is replaced by one with {wanted}; its unread messages are "
        f"lost.",
    )


def warn_of_another_project(name: str, prefix: str, theirs: str) -> None:
    """Warn if the segment was made for another Django project."""
    mine = project_of_this_process()
    if mine and theirs and mine != theirs:
        warn(
            ("project", name),
            f"Two projects share the channel layer prefix {prefix!r}: {theirs} made its segment, and this is {mine}. "
            f"They see each other's messages. Give one of them another prefix; tests need a random one.",
        )


def warn_of_neighbours(name: str, prefix: str, digest: str) -> None:
    """Warn of segments of other users, or of other releases, with the same prefix."""
    pattern = re.compile(rf"hybrid_layer\.(\d+)\.{digest}\.(\d+)\.d")
    # Without a glob, which takes milliseconds where test suites have left hundreds of segments.
    try:
        names = os.listdir(ROOT)
    except OSError:  # then there is no warning
        return
    for each in filter(None, map(pattern.fullmatch, names)):
        uid, version = each.groups()
        if int(uid) != os.geteuid():
            warn(
                ("user", name),
                f"User {uid} has a segment of the same prefix {prefix!r}, and this process is user {os.geteuid()}: "
                f"processes of different users do not see each other's messages. Run them as one user, or set hosts "
                f'and routes={{"<channel>": "remote"}}.',
            )
        elif int(version) != _core.LAYOUT_VERSION:
            with contextlib.suppress(OSError):  # a look at the next one may succeed
                if is_inhabited(each[0].removesuffix(".d")):
                    warn(
                        ("version", name),
                        f"Another release of hybrid_layer runs with the same prefix {prefix!r}: normal channels do not "
                        f"connect the two. Restart the older processes.",
                    )


def warn_of_unread(channel: str) -> None:
    """Warn that messages expired on a normal channel that no process has ever read."""
    warn(
        ("unread", channel),
        f"Messages on {channel} expired: no process of this user on this machine reads it. If its worker runs "
        f'elsewhere, set hosts and routes={{"{channel}": "remote"}}.',
    )
