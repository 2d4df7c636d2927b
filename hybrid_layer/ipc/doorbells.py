"""The doorbells in a segment's directory, by the names of their files."""

from __future__ import annotations

from pathlib import Path

from hybrid_layer.ipc import _core


def remove_stale_doorbells(directory: Path, core: _core.Segment) -> None:
    """Remove those that killed processes left behind. Raises `OSError`."""
    try:
        # Listed first: a process that makes its doorbell now has been published before, and is seen below.
        paths = [path for path in directory.iterdir() if path.name[:1].isdigit()]
    except FileNotFoundError:
        return
    alive = {f"{slot}.{generation}" for slot, generation, _, is_alive in core.processes() if is_alive}
    for path in paths:
        if path.name.rpartition(".")[0] not in alive:
            path.unlink(missing_ok=True)
