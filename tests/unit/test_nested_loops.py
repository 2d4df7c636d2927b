"""A loop that is run again by one of its own coroutines, as nest_asyncio allows it in notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.inboxes import IMPLEMENTATIONS

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, importlib, sys
import nest_asyncio
from hybrid_layer.configuration import LayerOptions
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import Statistics
from tests.support.inboxes import Nothing, later

Inbox = importlib.import_module(sys.argv[1]).Inbox
order = []

async def member(box, number):
    loop = asyncio.get_running_loop()
    await box.receive(f"p!{number}", Nothing(), loop)
    if number in (0, 2):
        loop.run_until_complete(asyncio.sleep(0.001))
    order.append(number)

async def main():
    box = Inbox(Policy(LayerOptions()), Statistics())
    tasks = [asyncio.ensure_future(member(box, number)) for number in range(5)]
    await asyncio.sleep(0)
    box.deliver([f"p!{number}" for number in range(5)], b"x", later())
    await asyncio.gather(*tasks)

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
nest_asyncio.apply(loop)
loop.run_until_complete(main())
loop.close()
print(*order)
"""


@pytest.mark.parametrize("module", [module.__name__ for module in IMPLEMENTATIONS.values()])
def test_members_of_a_group_go_on_in_the_nested_run(module: str) -> None:
    """They share the callback in which one of them runs the loop again, and do not wait until it comes back."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, module], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert done.stdout.split() == ["1", "3", "4", "2", "0"]
