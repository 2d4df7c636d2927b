"""Whose files are trusted: regular ones, directories and FIFOs of this process's user that nobody else may open."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from hybrid_layer.exceptions import ConfigurationError

_KINDS: tuple[tuple[str, Callable[[int], bool]], ...] = (
    ("file", stat.S_ISREG),
    ("directory", stat.S_ISDIR),
    ("symbolic link", stat.S_ISLNK),
    ("FIFO", stat.S_ISFIFO),
    ("socket", stat.S_ISSOCK),
)


def check_ours(status: os.stat_result, path: Path | str, wanted: str = "file") -> None:
    """Raise `ConfigurationError` for what another user owns, others may open, or is no `wanted`."""
    kind = next((name for name, is_it in _KINDS if is_it(status.st_mode)), "device")
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.geteuid() and not mode & 0o077 and kind == wanted:
        return
    right = "0700" if wanted == "directory" else "0600"
    raise ConfigurationError(
        f"{path} is a {kind} of user {status.st_uid} with mode {mode:04o}. This process, of user {os.geteuid()}, "
        f"trusts only a {wanted} of its own that is closed to others (mode {right}). {_REMEDY}"
    )


def refused(error: OSError, path: Path | str) -> ConfigurationError:
    """What the system's refusal to make or open `path` means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ConfigurationError(
            f"{path} cannot be made: its file system takes no more files ({error.strerror}; `df -i` shows how many). "
            f"Remove what nobody needs there."
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ConfigurationError(
            f"{path} cannot be opened: no descriptor is left ({error.strerror}). Raise the limit (`ulimit -n`, "
            f"LimitNOFILE), or find what keeps so many open."
        )
    try:
        status = os.lstat(path)
    except OSError:
        return ConfigurationError(f"{path} cannot be opened: {error.strerror}. {_REMEDY}")
    try:
        check_ours(status, path)
    except ConfigurationError as reason:
        return reason
    return ConfigurationError(f"{path} cannot be opened by user {os.geteuid()}: {error.strerror}. {_REMEDY}")


_REMEDY = "Remove it, or use another prefix."
