# SPDX-License-Identifier: BSD-3-Clause
"""Which files are trusted, and what the system's errors mean.

Trusted are files, directories and FIFOs of this process's user that no other user may open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hybrid_layer.exceptions import ConfigurationError, SegmentUnavailable

_KINDS = {"-": "file", "d": "directory", "l": "symbolic link", "p": "FIFO", "s": "socket"}
"""By their letter in a list of files (`stat.filemode`)."""


def check_ours(status: os.stat_result, path: Path | str, wanted: str = "file") -> None:
    """Raise `ConfigurationError` unless it is a `wanted`, owned by this user, and closed to others."""
    kind = _KINDS.get(stat.filemode(status.st_mode)[0], "device")
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.geteuid() and not mode & 0o077 and kind == wanted:
        return
    right = "0700" if wanted == "directory" else "0600"
    raise ConfigurationError(
        f"{path} is a {kind} of user {status.st_uid} with mode {mode:04o}. This process, of user {os.geteuid()}, "
        f"trusts only a {wanted} of its own that is closed to others (mode {right}). {_REMEDY}"
    )


@contextlib.contextmanager
def refusals(path: Path | str) -> Iterator[None]:
    """Turn an `OSError` in the block into the error of `refused`. `path` is used if the error names none."""
    try:
        yield
    except OSError as error:
        refuse(error, os.fsdecode(error.filename or path))


def refuse(error: OSError, path: Path | str) -> NoReturn:
    """Raise the error that `refused` makes of `error`, or `error` itself if it is one already."""
    if isinstance(error, SegmentUnavailable):  # an OSError too
        raise error
    raise refused(error, path) from error


def refused(error: OSError, path: Path | str) -> ConfigurationError:
    """The error to raise when the system does not let us make, open or use `path`: with cause and remedy."""
    path, user = os.fspath(path), os.geteuid()
    folder = os.path.dirname(path)
    cause = error.strerror or str(error)
    if error.errno in _REMEDIES:
        return SegmentUnavailable(f"{path} cannot be used: {cause}. {_REMEDIES[error.errno]}")
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(folder):
        return SegmentUnavailable(
            f"{path} cannot be made: this process sees no folder {folder}, which the machine-local layer needs. Mount "
            f"it. If a test hides the real file system (pyfakefs), let it begin after the layer's first call."
        )
    try:
        check_ours(os.lstat(path), path, "directory" if path.endswith(".d") else "file")
        remedy = "If it stays so, remove it, or use another prefix."
    except ConfigurationError as reason:
        return reason
    except OSError:  # nothing is there
        where = folder if os.path.isdir(folder) else "shared memory"
        remedy = f"See whether user {user} may write to {where}."
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = f"{remedy} A container, AppArmor, SELinux or seccomp may restrict the process, too."
    return SegmentUnavailable(f"{path} cannot be used by user {user}: {cause}. {remedy}")


_REMEDY = "Remove it, or use another prefix."
_NO_ROOM = (
    "Its file system has no room for more files or bytes (`df -i` and `df` show how many). Remove some files there."
)
_NO_DESCRIPTOR = "No descriptor is left. Raise the limit (`ulimit -n`, LimitNOFILE), or find what keeps so many open."
_REMEDIES = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EMFILE: _NO_DESCRIPTOR,
    errno.ENFILE: _NO_DESCRIPTOR,
    errno.EFBIG: "It is larger than this process may make a file. Raise the limit (`ulimit -f`, LimitFSIZE) above the "
    "sum of message_memory and group_memory, by 4 MiB and a tenth of it, or lower these two.",
    errno.ENOLCK: "The system grants no record lock: it has too many, or its limit for them is reached (`ulimit -x`; "
    "/proc/locks lists them).",
    errno.ENOMEM: "The process may not have so much memory or address space. Raise the limit (`ulimit -v`, LimitAS, "
    "that of the container), or lower message_memory and group_memory.",
}
"""By error number: what it means, and what to do."""
