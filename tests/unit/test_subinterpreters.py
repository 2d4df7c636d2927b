"""Several interpreters in one process, as mod_wsgi has them: the local half says no, the inbox works in each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys

try:
    import _interpreters

    def make(isolated):
        return _interpreters.create("isolated" if isolated else "legacy", reqrefs=False)

    def run(interpreter, code):
        failure = _interpreters.run_string(interpreter, code)
        assert failure is None, failure

    destroy = _interpreters.destroy
except ImportError:
    import _xxsubinterpreters

    def make(isolated):
        return _xxsubinterpreters.create(isolated=isolated)

    run, destroy = _xxsubinterpreters.run_string, _xxsubinterpreters.destroy

LOCAL = '''
import sys
import hybrid_layer
from hybrid_layer.exceptions import ConfigurationError
try:
    hybrid_layer.HybridChannelLayer()
except ConfigurationError as error:
    print(error, file=sys.stderr)
'''

INBOX = '''
import asyncio
from hybrid_layer.inbox import Inbox
from hybrid_layer.configuration import LayerOptions
from hybrid_layer.policy import Policy
from hybrid_layer.statistics import Statistics

class Nothing:
    def poll(self, loop): pass
    def on_cancel(self, loop): pass

async def read(name):
    return await box.receive(name, Nothing(), asyncio.get_running_loop())

async def main():
    task = asyncio.create_task(read("p!1"))
    await asyncio.sleep(0)
    box.deliver(["p!1"], b"x", 1e12)
    assert await task == b"x"
    pending = asyncio.create_task(read("p!2"))
    pending._log_destroy_pending = False
    await asyncio.sleep(0)
    return pending

box = Inbox(Policy(LayerOptions()), Statistics())
loop = asyncio.new_event_loop()
loop.set_debug(False)
pending = loop.run_until_complete(main())
loop.close()
'''

if sys.argv[1] == "isolated":
    exec(LOCAL + INBOX)
    isolated = make(True)
    run(isolated, LOCAL + INBOX)
    destroy(isolated)
    exec(INBOX)
else:
    first, second = make(False), make(False)
    run(first, LOCAL)
    run(first, INBOX)
    run(second, INBOX)
    destroy(first)
    run(second, INBOX)
    exec(LOCAL + INBOX)
"""


@pytest.mark.parametrize("kind", ["sharing a lock", "isolated"])
def test_interpreters_of_one_process(kind: str) -> None:
    """In development mode, so that memory that is used after it was freed shows; but not asyncio's.

    Three faults of Python itself are kept out. asyncio's debug mode needs `sys._getframe`, and in Python 3.11 `sys`
    loses it in all interpreters when one ends. `import datetime` in a second isolated one aborts 3.12.1 and 3.13.0. And
    in 3.12.1 the end of the process crashes after `import asyncio` in an isolated one alone: some of Python's functions
    keep a tuple for all interpreters in the memory of the one that calls them first, and the main one frees it
    (gh-119213). Hence the main one does the same work before.
    """
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, kind]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # "" on sys.path is the main interpreter's alone
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.stderr == (
        "The machine-local layer runs in a process's main interpreter only, and this is a sub-interpreter. With "
        "mod_wsgi, set WSGIApplicationGroup %{GLOBAL}; elsewhere use processes, or hybrid_layer.remote.\n"
    )
    assert done.returncode == 0


def test_free_threaded_python_is_refused_by_name() -> None:
    code = "import sys; sys._is_gil_enabled = lambda: False; import hybrid_layer"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "ImportError: hybrid_layer needs Python's global interpreter lock" in done.stderr
    assert "PYTHON_GIL=1" in done.stderr
