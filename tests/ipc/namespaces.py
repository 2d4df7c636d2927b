"""Process-id namespaces, as containers have them, for the tests that need some."""

from __future__ import annotations

import functools
import subprocess

_UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@functools.cache
def in_its_own() -> tuple[str, ...]:
    """The command under which a process is number 1 of a namespace of its own; empty where that is not allowed."""
    try:
        allowed = subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return _UNSHARE if allowed else ()
