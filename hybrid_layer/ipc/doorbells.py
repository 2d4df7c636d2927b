"""Doorbells: FIFOs in a segment's directory, which are made here and rung by the core."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hybrid_layer.ipc import _core
from hybrid_layer.ipc.objects import Descriptor


def make_doorbell(path: str) -> Descriptor:
    """Make a doorbell at `path`, in place of an older file. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.mkfifo(path, 0o600)
    os.chmod(path, 0o600)  # despite a umask
    # Opened for writing, too. Otherwise it would be at its end, and readable for ever, once the last writer has closed
    # it.
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return Descriptor(fd)
    except OSError:
        os.close(fd)
        raise


def remove_stale_doorbells(directory: Path, core: _core.Segment) -> None:
    """Remove the doorbells of killed processes. Raises `OSError`."""
    try:
        # Listed first: a process publishes its slot before it makes a doorbell, so it is seen below.
        paths = [path for path in directory.iterdir() if path.name[:1].isdigit()]
    except FileNotFoundError:
        return
    alive = {f"{slot}.{generation}" for slot, generation, _, is_alive in core.processes() if is_alive}
    for path in paths:
        if path.name.rpartition(".")[0] not in alive:
            path.unlink(missing_ok=True)
