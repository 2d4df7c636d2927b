"""How long until a new process can send?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.arena import Party, Role
from benchmarks.contestants import ALL_LAYERS, Contestant
from benchmarks.message import HELLO, listen, message
from benchmarks.questions.base import Means
from benchmarks.results import Column, Sample

_IMPORT = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"
_CHANNELS = "channels.layers"
"""What every site imports anyway."""
_IMPORTS = 4


class StartUp:
    """Importing the layer's module in a fresh interpreter, and the first message of a process."""

    key = "start_up"
    columns = (
        Column("first_ms", "first send, ms", ",.1f"),
        Column("import_ratio", f"import / {_CHANNELS}", ".2f"),
        Column("import_ms", "import, ms"),
    )
    references = ()
    contestants = ALL_LAYERS
    text = (
        "How long until a new process can send? The first send() of a process, to one that waits already; and the "
        f"import of the layer's module in a fresh interpreter, beside that of {_CHANNELS}, which every site imports."
    )

    def measure(self, means: Means, contestant: Contestant) -> Sample:
        taken, _ = means.arena.run(contestant, [Role(send_first), Role(wait_for_it)])
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as bytecode:
            own = self._seconds_of_import(contestant.backend.rpartition(".")[0], bytecode)
            channels = self._seconds_of_import(_CHANNELS, bytecode)
        return Sample(
            {
                "first_ms": taken * 1e3,
                "import_ratio": own / channels,
                "import_ms": own * 1e3,
            }
        )

    def _seconds_of_import(self, module: str, bytecode: str) -> float:
        """The fastest of a few: whatever else the machine does comes on top, and so does the compiling at first."""
        # As after an installation, which compiles; a checkout may lack what packages beside it have.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
        command = [sys.executable, "-c", _IMPORT.format(module)]
        return min(
            float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
            for _ in range(_IMPORTS)
        )


async def send_first(layer: Any, party: Party) -> float:
    """The seconds that it took."""
    _, channel = await party.meet()
    begin = time.perf_counter()
    await layer.send(channel, message(HELLO))
    return time.perf_counter() - begin


async def wait_for_it(layer: Any, party: Party) -> None:
    """Who is there already."""
    channel = await layer.new_channel()
    first = await listen(layer, channel)
    await party.meet(channel)
    await first
