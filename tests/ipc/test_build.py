"""Which of the two cores this is: that of Linux, or the portable one, which asks no more of a system than macOS has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hybrid_layer.ipc import _core, objects
from hybrid_layer.ipc.objects import segment_name
from tests.support.probe import posix_name

LINUX_ONLY = {"syscall", "madvise", "posix_fallocate", "posix_fallocate64", "pthread_mutex_timedlock"}
"""What the core of Linux calls and macOS has not; the futex is asked for by `syscall`."""
LONGEST_NAME = 31
"""Of a shared-memory object on macOS, with the slash."""


def imports() -> set[str]:
    """The functions that the core calls and does not bring along."""
    command = ["nm", "--dynamic", "--undefined-only", "--format=just-symbols", _core.__file__]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {symbol.partition("@")[0] for symbol in symbols}


def test_it_is_the_one_that_was_asked_for() -> None:
    asked_for = os.environ.get("HYBRID_LAYER_PORTABLE") == "1" or sys.platform != "linux"
    assert asked_for == _core.PORTABLE


def test_what_it_asks_of_the_system() -> None:
    if _core.PORTABLE:
        assert LINUX_ONLY & imports() == set()
        assert b"/dev/shm" not in Path(_core.__file__).read_bytes()
    else:
        assert LINUX_ONLY & imports() >= {"syscall", "madvise", "pthread_mutex_timedlock"}


def test_where_things_are() -> None:
    name = segment_name("x" * 50, 2**32 - 2)
    assert Path("/tmp" if _core.PORTABLE else "/dev/shm") == objects.ROOT
    assert objects.directory_of(name).parent == objects.ROOT
    assert len(posix_name(name)) <= LONGEST_NAME or not _core.PORTABLE
    assert str(objects.directory_of(name)) in str(objects.lock_bearer(name)) or not _core.PORTABLE
