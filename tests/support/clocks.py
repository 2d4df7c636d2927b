"""Servers and processes whose clocks a test sets."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

from tests.support.closing import Closing

SOURCE = Path(__file__).parent.parent / "remote" / "clock_shift.c"
_FORMAT = "=qq"


class Clocks(Closing):
    """The clocks of the programs that are started with `environment`. `directory` is the test's own."""

    def __init__(self, directory: Path) -> None:
        library, path = directory / "clock_shift.so", directory / "clock_shift"
        compiler = os.environ.get("CC") or shutil.which("gcc") or "cc"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE], check=True
        )
        path.write_bytes(bytes(struct.calcsize(_FORMAT)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._wall = self._boot = 0.0
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(path)}

    def step(self, seconds: float) -> None:
        """Set the wall clock, forward or back."""
        self._wall += seconds
        self._write()

    def suspend(self, seconds: float) -> None:
        """As after a suspension: the wall clock and CLOCK_BOOTTIME have advanced, CLOCK_MONOTONIC has not."""
        self._wall += seconds
        self._boot += seconds
        self._write()

    def close(self) -> None:
        """Close the file; programs keep the clocks that they have."""
        self._map.close()

    def _write(self) -> None:
        self._map[:] = struct.pack(_FORMAT, round(self._wall * 1e9), round(self._boot * 1e9))
