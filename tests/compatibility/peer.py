"""A process with one layer, of whichever tree its PYTHONPATH names; it makes the calls that its input names.

It has to run on an earlier tree, too. So it uses what users use, and nothing of the tests. Each line, in and out, is
one value in JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def main() -> None:
    path, options = json.loads(sys.stdin.readline())
    module, _, name = path.rpartition(".")
    layer = getattr(importlib.import_module(module), name)(**options)
    say(sys.modules["hybrid_layer"].__file__)

    async def call(number: int, method: str, arguments: list[Any]) -> None:
        try:
            say([number, await getattr(layer, method)(*arguments), None])
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is told
            say([number, None, type(error).__name__])

    calls = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        task = asyncio.create_task(call(*json.loads(line)))
        calls.add(task)
        task.add_done_callback(calls.discard)
    await layer.close()


asyncio.run(main())
